"""Run-length encoding of predicted masks in the frame of the whole image.

    pycocotools.mask.encode(paste_masks_in_image(masks, boxes, size) >= threshold)

without a map of the whole image.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from pycocotools import mask as rle
from torch import Tensor

from openvocab.structures import Size

PADDING = 1
"""Cells of zeros around a mask, so that an object that fills its box fades out past the edges of the box."""


@torch.no_grad()
def encode_masks(probabilities: Tensor, boxes: Tensor, size: Size, threshold: float = 0.5) -> list[dict[str, Any]]:
    """Paste each mask into its box and encode it, with the pixels of torchvision's `paste_masks_in_image`.

    As there, boxes are widened by the padding and truncated to whole pixels, which moves an edge by up to a pixel;
    detectron2 samples at pixel centers within the exact box instead. Clip boxes that are much larger than the image
    first: a mask is resized to its entire box and then cropped.

    Args:
        probabilities: (M, m, m) in 0..1, each of the inside of its box.
        boxes: (M, 4) x1 y1 x2 y2 in pixels of the original frame.
        size: (H, W) of the original frame.
        threshold: pixels above belong to the object.

    Returns:
        M masks in COCO's compressed run-length encoding, {"size": [H, W], "counts": bytes}.

    Raises:
        ValueError: shapes that disagree, or a box that is not finite.
    """
    _check(probabilities, boxes)
    padded = F.pad(probabilities.float().cpu(), (PADDING,) * 4)  # (M, m + 2, m + 2)
    # boxes grow with the padding, so that a cell keeps its pixels
    scale = padded.shape[-1] / probabilities.shape[-1]
    lengths = [
        _run_lengths(mask, box, size, threshold)
        for mask, box in zip(padded, _whole_pixels(boxes.float().cpu(), scale), strict=True)
    ]
    return rle.frPyObjects([{"size": list(size), "counts": counts} for counts in lengths], *size) if lengths else []


def _whole_pixels(boxes: Tensor, scale: float) -> list[list[int]]:
    """Return the first and last pixel, x1 y1 x2 y2, of boxes (M, 4) widened by `scale` about their centers."""
    half = (boxes[:, 2:] - boxes[:, :2]) * 0.5 * scale
    center = (boxes[:, 2:] + boxes[:, :2]) * 0.5
    # `long` truncates towards zero
    return torch.cat([center - half, center + half], dim=1).long().tolist()


def _run_lengths(mask: Tensor, box: list[int], size: Size, threshold: float) -> np.ndarray:
    """Return lengths of runs of 0, 1, 0, ... down the columns of the frame, for mask (m, m) resized to its box."""
    left, top, right, bottom = box
    columns = slice(max(left, 0) - left, min(right + 1, size[1]) - left)
    rows = slice(max(top, 0) - top, min(bottom + 1, size[0]) - top)
    if columns.start >= columns.stop or rows.start >= rows.stop:
        # the box is outside the frame: one run of zeros
        return np.array([size[0] * size[1]])
    shape = (bottom - top + 1, right - left + 1)
    # not the visible part alone, whose pixels would be sampled at other positions
    resized = F.interpolate(mask[None, None], size=shape, mode="bilinear", align_corners=False)[0, 0]
    edges = _edges((resized[rows, columns] > threshold).numpy(), left + columns.start, top + rows.start, size[0])
    # a mask that ends with the frame has no last run of zeros
    lengths = np.diff(edges, prepend=0, append=size[0] * size[1])
    return lengths[:-1] if lengths[-1] == 0 else lengths


def _edges(crop: np.ndarray, left: int, top: int, frame_height: int) -> np.ndarray:
    """Return where runs of True start and end, in turn, as positions down the columns of the frame.

    Args:
        crop: (h, w) bool.
        left: column of the frame at which the crop starts.
        top: row of the frame at which the crop starts.
        frame_height: rows of the frame.
    """
    height, width = crop.shape
    cells = np.zeros(1 + width * (height + 1), dtype=bool)
    cells[1:].reshape(width, height + 1)[:, :height] = crop.T  # a False before the first and after every column
    column, row = np.divmod(np.flatnonzero(cells[1:] != cells[:-1]), height + 1)
    edges = (left + column) * frame_height + top + row
    joined = edges[1:] == edges[:-1]  # a run that ends with its column where the next column's starts
    return edges[~(np.append(joined, False) | np.insert(joined, 0, False))] if joined.any() else edges


def _check(probabilities: Tensor, boxes: Tensor) -> None:
    if probabilities.ndim != 3 or probabilities.shape[1] != probabilities.shape[2] or not probabilities.shape[2]:
        raise ValueError(f"probabilities: expected (M, m, m), got {tuple(probabilities.shape)}")
    if boxes.shape != (len(probabilities), 4):
        raise ValueError(f"boxes: expected ({len(probabilities)}, 4), got {tuple(boxes.shape)}")
    if not boxes.isfinite().all():
        raise ValueError("boxes: expected finite coordinates, got NaN or infinite ones")
