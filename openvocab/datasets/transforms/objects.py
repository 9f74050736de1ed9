"""Boxes and masks of an image that is resized, cropped or flipped; the transforms of `geometry` call these."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from openvocab.datasets.transforms.results import Results
from openvocab.structures import Instances, Regions, Size

VISIBLE_PIXELS = 1.0
"""A crop drops objects of which less than this is left, in width or in height."""
Objects = TypeVar("Objects", Instances, Regions)
"""What has boxes: labeled objects, and regions with embeddings of a teacher; each field is a tensor with one row per
object, or None."""


def move_objects(results: Results, move: Callable[[Any], Any]) -> None:
    """Replace the entries of `results` that have boxes.

    Args:
        move: takes and returns `Instances` or `Regions`.
    """
    instances, regions = results.get("instances"), results.get("regions")
    if instances is not None:
        results["instances"] = move(instances)
    if regions is not None:
        results["regions"] = move(regions)


def flip_objects(objects: Objects, width: int) -> Objects:
    """Mirror boxes (N, 4) and masks (N, H, W) left and right in an image that is `width` pixels wide."""
    left, top, right, bottom = objects.boxes.unbind(1)
    # Coordinates of edges, not of pixels: x becomes width - x without an offset of one.
    boxes = torch.stack([width - right, top, width - left, bottom], dim=1)  # (N, 4)
    return _with(objects, boxes, lambda masks: masks.flip(2))


def resize_objects(objects: Objects, before: Size, after: Size, resize: Callable[[np.ndarray], np.ndarray]) -> Objects:
    """Scale boxes (N, 4) and masks (N, H, W) with their image.

    Args:
        objects: objects in the frame of the image before the change.
        before, after: size (height, width) of the image.
        resize: resizes one (H, W) uint8 mask as the image was resized.
    """
    scale = torch.tensor([after[1] / before[1], after[0] / before[0]] * 2)
    boxes = (objects.boxes.double() * scale).float()
    return _with(objects, boxes, lambda masks: _each(masks, resize, after))


def crop_objects(
    objects: Objects,
    offset: tuple[float, float],
    scale: tuple[float, float],
    visible_size: Size,
    size: Size,
    cut: Callable[[np.ndarray], np.ndarray],
) -> Objects:
    """Move boxes (N, 4) and masks (N, H, W) with an image of which a window is cut out, scaled and padded.

    Args:
        objects: objects in the frame of the image before the change.
        offset: (top, left) of the window in source pixels.
        scale: (y, x) factors.
        visible_size: (height, width) of the scaled window.
        size: (height, width) of the result, at least `visible_size`; the rest is padding.
        cut: cuts, scales and pads one (H, W) uint8 mask as the image was.

    Returns:
        The objects of which at least a pixel is left. A box that was cut becomes the box around the visible part of the
        mask, if there is a mask.
    """
    shift = torch.tensor([offset[1], offset[0]] * 2, dtype=torch.float64)
    moved = (objects.boxes.double() - shift) * torch.tensor([scale[1], scale[0]] * 2, dtype=torch.float64)
    limit = torch.tensor([visible_size[1], visible_size[0]] * 2, dtype=torch.float64)
    # to the visible part, not to the padded result: no box may extend into the padding
    clipped = moved.clamp(min=torch.zeros(4, dtype=torch.float64), max=limit)  # (N, 4)
    visible = ((clipped[:, 2:] - clipped[:, :2]) >= VISIBLE_PIXELS).all(1)  # (N,)
    was_cut = (clipped != moved).any(1)[visible]
    cropped = _with(take_objects(objects, visible), clipped[visible].float(), lambda masks: _each(masks, cut, size))
    masks = _masks_of(cropped)
    return cropped if masks is None else _tighten(cropped, masks, was_cut)


def take_objects(objects: Objects, chosen: Tensor) -> Objects:
    """Return the rows of every field that `chosen` selects, (N,) bool or indices."""
    fields = ((field.name, getattr(objects, field.name)) for field in dataclasses.fields(objects))
    return dataclasses.replace(objects, **{name: rows[chosen] for name, rows in fields if isinstance(rows, Tensor)})


def mask_boxes(masks: Tensor) -> Tensor:
    """Return the (N, 4) float32 boxes x1 y1 x2 y2 around the (N, H, W) bool masks; zeros for an empty one."""
    edges = []
    for along in (1, 2):  # columns with a pixel of the mask, then rows
        occupied = masks.any(along).to(torch.uint8)  # (N, W), then (N, H)
        length = occupied.shape[1]
        # argmax finds the first of several equal ones: from the front the first edge, from the back the last one
        edges.append((occupied.argmax(1), length - occupied.flip(1).argmax(1)))
    (left, right), (top, bottom) = edges
    boxes = torch.stack([left, top, right, bottom], dim=1).float()
    return boxes * masks.flatten(1).any(1)[:, None]  # argmax is 0 in an empty mask, whose box would be the image


def _tighten(objects: Objects, masks: Tensor, was_cut: Tensor) -> Objects:
    """Drop objects whose mask (N, H, W) has become empty, and fit the boxes that were cut, (N,) bool, to the masks."""
    around = mask_boxes(masks)  # (N, 4)
    # only those that were cut: the annotated box of a whole object may be more exact than its mask
    boxes = torch.where(was_cut[:, None], around, objects.boxes)
    return take_objects(dataclasses.replace(objects, boxes=boxes), around[:, 2] > around[:, 0])


def _masks_of(objects: Instances | Regions) -> Tensor | None:
    """Return the masks, (N, H, W) bool; regions have none."""
    return getattr(objects, "masks", None)


def _with(objects: Objects, boxes: Tensor, move_masks: Callable[[Tensor], Tensor]) -> Objects:
    """Return `objects` with other boxes, and with masks moved if there are some."""
    masks = _masks_of(objects)
    changed = {"boxes": boxes} if masks is None else {"boxes": boxes, "masks": move_masks(masks)}
    return dataclasses.replace(objects, **changed)


def _each(masks: Tensor, change: Callable[[np.ndarray], np.ndarray], size: Size) -> Tensor:
    """Apply `change` to every mask of (N, H, W) bool; the results are of `size`."""
    # OpenCV takes no bool: the same bytes as uint8, one mask at a time, so that no second stack is needed
    changed = np.empty((len(masks), *size), np.uint8)
    for target, mask in zip(changed, masks.view(torch.uint8).numpy()):
        target[:] = change(mask)
    return torch.from_numpy(changed).view(torch.bool)
