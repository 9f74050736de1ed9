"""Boxes as offsets from reference boxes, the targets of box regression."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

MAX_LOG_SCALE = math.log(1000 / 16)
"""Logarithm of how much larger than its reference a decoded box can be; the customary bound of R-CNN."""


def encode_boxes(boxes: Tensor, references: Tensor, weights: Sequence[float]) -> Tensor:
    """Encode boxes as offsets from references.

    Args:
        boxes, references: (N, 4) x1 y1 x2 y2 in the same frame, of positive size.
        weights: factors of the offsets of x, y, width and height.

    Returns:
        (N, 4) weighted offsets: of the center, in units of the reference's size, and the logarithms of the size ratios.

    Reference: arXiv 1311.2524, appendix C.
    """
    center, size = _center_and_size(boxes)
    reference_center, reference_size = _center_and_size(references)
    # relative to the reference and logarithmic: the targets do not depend on the scale of the object
    offsets = torch.cat([(center - reference_center) / reference_size, (size / reference_size).log()], dim=1)
    return offsets * offsets.new_tensor(weights)


def decode_boxes(offsets: Tensor, references: Tensor, weights: Sequence[float]) -> Tensor:
    """Invert `encode_boxes`.

    Args:
        offsets: (N, 4) of any floating dtype.
        references: (N, 4) x1 y1 x2 y2.
        weights: see `encode_boxes`.

    Returns:
        (N, 4) float32 x1 y1 x2 y2.
    """
    # float32: rounded to bfloat16, the offset of a large box would move its edges by pixels
    offsets = offsets.float() / references.new_tensor(weights)
    center, size = _center_and_size(references)
    moved = center + offsets[:, :2] * size  # (N, 2)
    # an untrained network may predict any size: without the clamp, exp would overflow to infinite boxes
    half = 0.5 * size * offsets[:, 2:].clamp(max=MAX_LOG_SCALE).exp()
    return torch.cat([moved - half, moved + half], dim=1)


def _center_and_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the centers (N, 2) and the sizes (N, 2), width first, of boxes (N, 4)."""
    size = boxes[:, 2:] - boxes[:, :2]
    return boxes[:, :2] + 0.5 * size, size  # (N, 2) each
