"""Boxes as offsets from reference boxes, the targets of box regression.

Two frames exist. In the library the corners of a box are edges: (x, y, x + width, y + height). Older detectors (GLIP)
compute with inclusive corners, whose second one is the last pixel: (x, y, x + width - 1, y + height - 1). A part that
needs them converts its labels with `inclusive_corners`, and its detections back with `edge_corners`.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

MAX_LOG_SCALE = math.log(1000 / 16)
"""Logarithm of how much larger than its reference a decoded box can be; the customary bound of R-CNN."""


def encode_boxes(boxes: Tensor, references: Tensor, weights: Sequence[float], *, inclusive: bool = False) -> Tensor:
    """Encode boxes as offsets from references.

    Args:
        boxes, references: (N, 4) x1 y1 x2 y2 in the same frame, of positive size.
        weights: factors of the offsets of x, y, width and height.
        inclusive: x2 and y2 are the last column and row, so that the width is x2 - x1 + 1; default: they are edges.

    Returns:
        (N, 4) weighted offsets: of the center, in units of the reference's size, and the logarithms of the size ratios.

    Reference: arXiv 1311.2524, appendix C.
    """
    center, size = _center_and_size(boxes, inclusive)
    reference_center, reference_size = _center_and_size(references, inclusive)
    # relative to the reference and logarithmic: the targets do not depend on the scale of the object
    offsets = torch.cat([(center - reference_center) / reference_size, (size / reference_size).log()], dim=1)
    return offsets * offsets.new_tensor(weights)


def decode_boxes(offsets: Tensor, references: Tensor, weights: Sequence[float], *, inclusive: bool = False) -> Tensor:
    """Invert `encode_boxes`.

    Args:
        offsets: (N, 4) of any floating dtype.
        references: (N, 4) x1 y1 x2 y2.
        weights, inclusive: see `encode_boxes`.

    Returns:
        (N, 4) float32 x1 y1 x2 y2. A box with inclusive corners that is less than a pixel wide has x2 < x1.
    """
    # float32: rounded to bfloat16, the offset of a large box would move its edges by pixels
    offsets = offsets.float() / references.new_tensor(weights)
    center, size = _center_and_size(references, inclusive)
    moved = center + offsets[:, :2] * size  # (N, 2)
    # an untrained network may predict any size: without the clamp, exp would overflow to infinite boxes
    size = size * offsets[:, 2:].clamp(max=MAX_LOG_SCALE).exp()
    half = 0.5 * (size - 1) if inclusive else 0.5 * size
    return torch.cat([moved - half, moved + half], dim=1)


def inclusive_corners(boxes: Tensor) -> Tensor:
    """Return boxes (..., 4) of edges with the last column and row as x2 and y2; none becomes less than a pixel wide.

    Official GLIP subtracts the pixel in the original image, before the resize; here the boxes are those of the input,
    which moves the last column and row by |1 - scale| pixels of the input.

    Reference: `BoxList.convert` of maskrcnn_benchmark turns COCO's (x, y, w, h) into (x, y, x + w - 1, y + h - 1).
    """
    first, last = boxes[..., :2], boxes[..., 2:]
    return torch.cat([first, first + (last - first - 1).clamp(min=0)], dim=-1)


def edge_corners(boxes: Tensor) -> Tensor:
    """Return boxes (..., 4) with inclusive corners with edges as x2 and y2, one pixel further.

    Reference: `BoxList.convert` of maskrcnn_benchmark turns (x1, y1, x2, y2) into COCO's width x2 - x1 + 1; official
    results are scaled to the original image first, so this applies to boxes in the original frame.
    """
    return torch.cat([boxes[..., :2], boxes[..., 2:] + 1], dim=-1)


def _center_and_size(boxes: Tensor, inclusive: bool) -> tuple[Tensor, Tensor]:
    """Return the centers (N, 2) and the sizes (N, 2), width first, of boxes (N, 4)."""
    extent = boxes[:, 2:] - boxes[:, :2]
    # the center of inclusive corners is that of the pixels' centers: half a pixel before the center of the edges
    return boxes[:, :2] + 0.5 * extent, extent + 1 if inclusive else extent  # (N, 2) each
