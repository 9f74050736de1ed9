"""One square anchor per location of a feature pyramid, in the frame of inclusive corners."""

from collections.abc import Sequence

import torch
from torch import Tensor

from openvocab.structures import Size


def location_anchors(
    grid_sizes: Sequence[Size], strides: Sequence[int], sizes: Sequence[float], device: torch.device | None = None
) -> Tensor:
    """Return an anchor for each location of each level.

    The location in column i of stride s is centered at s i + (s - 1) / 2, the mean of its pixels' coordinates. (The
    anchors of `ProposalNetwork` are of another kind: edges, centered at s i, several per location.)

    Args:
        grid_sizes: (h, w) of each level.
        strides: of each level, in pixels.
        sizes: width and height of the anchors of each level, in pixels; GLIP: 8 strides.

    Returns:
        (N, 4) float32 x1 y1 x2 y2 with inclusive corners (see `openvocab.detection.box_coding`), input frame; level
        after level, each row by row.

    Raises:
        ValueError: different numbers of levels.

    Reference: RetinaNet's anchors in maskrcnn_benchmark, with one size and one shape.
    """
    if not len(grid_sizes) == len(strides) == len(sizes):
        raise ValueError(
            "expected one grid size, one stride and one anchor size per level, "
            f"got {len(grid_sizes)}, {len(strides)} and {len(sizes)}"
        )
    return torch.cat([_of_level(*level, device) for level in zip(grid_sizes, strides, sizes)])


def _of_level(grid_size: Size, stride: int, size: float, device: torch.device | None) -> Tensor:
    rows, columns = (torch.arange(length, device=device) * stride + (stride - 1) / 2 for length in grid_size)
    centers = torch.cartesian_prod(rows, columns).view(-1, 2).flip(1)  # (h * w, 2), x first
    half = (size - 1) / 2
    return torch.cat([centers - half, centers + half], dim=1).float()  # (h * w, 4)
