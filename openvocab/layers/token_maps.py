"""Conversion of patch tokens to a feature map."""

from torch import Tensor

from openvocab.structures import Size


def to_map(tokens: Tensor, grid_size: Size) -> Tensor:
    """Reshape patch tokens (B, h * w, C), row by row, to a map (B, C, h, w)."""
    return tokens.transpose(1, 2).unflatten(2, grid_size)  # (B, C, h, w), a view
