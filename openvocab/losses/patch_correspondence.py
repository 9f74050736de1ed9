"""Which patches of two crops of an image cover the same part of it."""

import torch
from torch import Tensor

from openvocab.structures import Size


def matching_patches(first_boxes: Tensor, second_boxes: Tensor, grid_size: Size) -> tuple[Tensor, Tensor, Tensor]:
    """Pair the patches of two views: the center of each patch of a pair lies in the other one.

    A patch is in at most one pair. If two crops of equal scale overlap, all patches of the overlap are paired. If the
    scales differ, a large patch is paired with the small one at its center. Disjoint crops have no pairs.

    Args:
        first_boxes, second_boxes: (B, 4) left, top, right and bottom edge of each view, in pixels of the source image;
            left > right if the view is mirrored.
        grid_size: (h, w) patches of both views.

    Returns:
        For each of M pairs the index of the image (M,), and the row-major index of the patch in the first view (M,)
        and in the second view (M,), all int64.

    Raises:
        ValueError: boxes of other shapes.
    """
    if first_boxes.ndim != 2 or first_boxes.shape[1] != 4 or first_boxes.shape != second_boxes.shape:
        raise ValueError(
            f"expected two lists of boxes (B, 4), got {tuple(first_boxes.shape)} and {tuple(second_boxes.shape)}"
        )
    to_second = _patch_under_center(first_boxes, second_boxes, grid_size)  # (B, h * w)
    to_first = _patch_under_center(second_boxes, first_boxes, grid_size)  # (B, h * w)
    itself = torch.arange(to_second.shape[1], device=to_second.device)
    # there and back again is the same patch; -1 (no patch) must not index the last one
    paired = (to_second >= 0) & (to_first.gather(1, to_second.clamp(min=0)) == itself)
    image, first = paired.nonzero(as_tuple=True)
    return image, first, to_second[image, first]


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
    # float64: the floor below turns a rounding error near the edge of a cell into another cell
    source = edges[:, :1] + centers * (edges[:, 1:] - edges[:, :1])  # (B, count)
    # a mirrored view has a negative width, which maps the position from right to left
    cell = ((source - other_edges[:, :1]) / (other_edges[:, 1:] - other_edges[:, :1]) * count).floor().long()
    return torch.where((cell >= 0) & (cell < count), cell, -1)
