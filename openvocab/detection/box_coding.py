"""Boxes as offsets from other boxes, which is what a network regresses."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

MAX_LOG_SCALE = math.log(1000 / 16)
"""Decoded boxes are at most this much larger than their reference; R-CNN's customary bound."""


def encode_boxes(boxes: Tensor, references: Tensor, weights: Sequence[float]) -> Tensor:
    """Return what moves `references` to `boxes`.

    Args:
        boxes, references: (N, 4) x1 y1 x2 y2, of positive size.
        weights: of x, y, width and height.

    Returns:
        (N, 4) weighted offsets: of the center in sizes of the reference, and logarithms of the size ratios.

    Reference: arXiv 1311.2524, appendix C.
    """
    center, size = _center_and_size(boxes)
    reference_center, reference_size = _center_and_size(references)
    offsets = torch.cat([(center - reference_center) / reference_size, (size / reference_size).log()], dim=1)
    return offsets * offsets.new_tensor(weights)


def decode_boxes(offsets: Tensor, references: Tensor, weights: Sequence[float]) -> Tensor:
    """Invert `encode_boxes`; return (N, 4) boxes."""
    offsets = offsets.float() / references.new_tensor(weights)
    center, size = _center_and_size(references)
    moved = center + offsets[:, :2] * size
    half = 0.5 * size * offsets[:, 2:].clamp(max=MAX_LOG_SCALE).exp()
    return torch.cat([moved - half, moved + half], dim=1)


def _center_and_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    size = boxes[:, 2:] - boxes[:, :2]
    return boxes[:, :2] + 0.5 * size, size
