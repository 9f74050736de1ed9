"""Tokens of patches, row by row, as a map."""

from torch import Tensor

from openvocab.structures import Size


def to_map(tokens: Tensor, grid_size: Size) -> Tensor:
    """Lay the tokens (B, h * w, C) of patches out on their grid (h, w), (B, C, h, w)."""
    return tokens.transpose(1, 2).unflatten(2, grid_size)
