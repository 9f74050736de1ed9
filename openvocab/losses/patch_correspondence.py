"""Which patches of two crops of an image cover the same place."""

import torch
from torch import Tensor

from openvocab.structures import Size


def matching_patches(first_boxes: Tensor, second_boxes: Tensor, grid_size: Size) -> tuple[Tensor, Tensor, Tensor]:
    """Pair the patches of two views: each one's center lies in the other.

    A patch is in one pair at most. Crops of equal scale that overlap pair all that overlaps; of a large and a small
    patch only the one that the center of the large one falls into is paired; crops apart pair nothing.

    Args:
        first_boxes, second_boxes: (B, 4) source positions of the left, top, right and bottom edge of each view, in one
            frame; left > right where the view is mirrored.
        grid_size: (h, w) patches of both views.

    Returns:
        image (M,), first (M,) and second (M,): index of the image, and of the patch in row-major order in each view.

    Raises:
        ValueError: boxes of other shapes.
    """
    if first_boxes.ndim != 2 or first_boxes.shape[1] != 4 or first_boxes.shape != second_boxes.shape:
        raise ValueError(
            f"expected two lists of boxes (B, 4), got {tuple(first_boxes.shape)} and {tuple(second_boxes.shape)}"
        )
    there = _patch_under_center(first_boxes, second_boxes, grid_size)  # (B, h * w)
    back = _patch_under_center(second_boxes, first_boxes, grid_size)
    start = torch.arange(there.shape[1], device=there.device)
    paired = (there >= 0) & (back.gather(1, there.clamp(min=0)) == start)
    image, first = paired.nonzero(as_tuple=True)
    return image, first, there[image, first]


def _patch_under_center(boxes: Tensor, others: Tensor, grid_size: Size) -> Tensor:
    """Return, for each patch of `boxes`, the patch of `others` that holds its center, (B, h * w); -1 for none."""
    height, width = grid_size
    row = _cell(boxes[:, 1::2], others[:, 1::2], height)[:, :, None]  # (B, h, 1)
    column = _cell(boxes[:, 0::2], others[:, 0::2], width)[:, None]  # (B, 1, w)
    outside = (row < 0) | (column < 0)
    return torch.where(outside, -1, row * width + column).flatten(1)


def _cell(edges: Tensor, other_edges: Tensor, count: int) -> Tensor:
    """Return the cell of `other_edges` (B, 2) under the center of each of `count` cells of `edges`, (B, count)."""
    centers = (torch.arange(count, device=edges.device, dtype=torch.float64) + 0.5) / count
    edges, other_edges = edges.double(), other_edges.double()
    source = edges[:, :1] + centers * (edges[:, 1:] - edges[:, :1])  # (B, count)
    cell = ((source - other_edges[:, :1]) / (other_edges[:, 1:] - other_edges[:, :1]) * count).floor().long()
    return torch.where((cell >= 0) & (cell < count), cell, -1)
