"""How boxes and masks follow their image; the transforms of `geometry` call these."""

import dataclasses
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from openvocab.structures import Instances, Size

OBJECT_KEYS = ("instances", "regions")
"""Entries of a results dict that hold boxes: labeled objects, and regions that carry features of a teacher. Both are
dataclasses of tensors with a row an object, `boxes` (N, 4) among them."""
VISIBLE_PIXELS = 1.0
"""A crop drops objects of which less than this is left, in width or in height."""
Objects = TypeVar("Objects")


def objects_of(results: dict) -> dict:
    """Return the entries of `results` that hold boxes."""
    return {key: results[key] for key in OBJECT_KEYS if results.get(key) is not None}


def flip_objects(objects: Objects, width: int) -> Objects:
    """Mirror left and right in an image of `width` pixels."""
    left, top, right, bottom = objects.boxes.unbind(1)
    boxes = torch.stack([width - right, top, width - left, bottom], dim=1)  # (N, 4)
    return _with(objects, boxes, lambda masks: masks.flip(2))


def resize_objects(objects: Objects, before: Size, after: Size, resize: Callable[[np.ndarray], np.ndarray]) -> Objects:
    """Follow an image that is resized from `before` to `after`.

    Args:
        resize: does to one (H, W) uint8 mask what was done to the image.
    """
    scale = torch.tensor([after[1] / before[1], after[0] / before[0]] * 2)
    boxes = (objects.boxes.double() * scale).float()
    return _with(objects, boxes, lambda masks: _each(masks, resize, after))


def crop_objects(
    objects: Objects,
    offset: tuple[float, float],
    scale: tuple[float, float],
    shown: Size,
    size: Size,
    cut: Callable[[np.ndarray], np.ndarray],
) -> Objects:
    """Follow an image of which a window is cut out and scaled; what is not visible any more is dropped.

    Args:
        offset: (top, left) of the window in source pixels.
        scale: (y, x) factors.
        shown: size that the scaled window fills.
        size: of the result, at least `shown`.
        cut: does to one (H, W) uint8 mask what was done to the image.

    Returns:
        The objects of which at least a pixel is left. A box that was cut becomes, where there is a mask, the box of
        what the mask still shows.
    """
    shift = torch.tensor([offset[1], offset[0]] * 2, dtype=torch.float64)
    moved = (objects.boxes.double() - shift) * torch.tensor([scale[1], scale[0]] * 2, dtype=torch.float64)
    limit = torch.tensor([shown[1], shown[0]] * 2, dtype=torch.float64)
    clipped = moved.clamp(min=torch.zeros(4, dtype=torch.float64), max=limit)  # (N, 4)
    visible = ((clipped[:, 2:] - clipped[:, :2]) >= VISIBLE_PIXELS).all(1)
    was_cut = (clipped != moved).any(1)[visible]
    kept = _with(take_objects(objects, visible), clipped[visible].float(), lambda masks: _each(masks, cut, size))
    return kept if getattr(kept, "masks", None) is None else _tighten(kept, was_cut)


def take_objects(objects: Objects, chosen: Tensor) -> Objects:
    """Return the rows of every field that the (N,) flags or places `chosen` select."""
    fields = ((field.name, getattr(objects, field.name)) for field in dataclasses.fields(objects))
    return dataclasses.replace(objects, **{name: rows[chosen] for name, rows in fields if isinstance(rows, Tensor)})


def mask_boxes(masks: Tensor) -> Tensor:
    """Return the (N, 4) float32 boxes x1 y1 x2 y2 around the (N, H, W) bool masks; zeros for an empty one."""
    edges = []
    for along in (1, 2):  # columns that are met, then rows
        met = masks.any(along).to(torch.uint8)  # (N, W), then (N, H)
        length = met.shape[1]
        edges.append((met.argmax(1), length - met.flip(1).argmax(1)))
    (left, right), (top, bottom) = edges
    boxes = torch.stack([left, top, right, bottom], dim=1).float()
    return boxes * masks.flatten(1).any(1)[:, None]


def _tighten(instances: Instances, was_cut: Tensor) -> Instances:
    """Drop objects whose mask has become empty, and fit the boxes that were cut to the masks."""
    around = mask_boxes(instances.masks)
    boxes = torch.where(was_cut[:, None], around, instances.boxes)
    return take_objects(dataclasses.replace(instances, boxes=boxes), around[:, 2] > around[:, 0])


def _with(objects: Objects, boxes: Tensor, move_masks: Callable[[Tensor], Tensor]) -> Objects:
    """Return `objects` with other boxes, and masks moved where there are some."""
    masks = getattr(objects, "masks", None)
    changed = {"boxes": boxes} if masks is None else {"boxes": boxes, "masks": move_masks(masks)}
    return dataclasses.replace(objects, **changed)


def _each(masks: Tensor, change: Callable[[np.ndarray], np.ndarray], size: Size) -> Tensor:
    """Change every mask of (N, H, W) to `size`."""
    changed = np.empty((len(masks), *size), np.uint8)
    for target, mask in zip(changed, masks.view(torch.uint8).numpy()):
        target[:] = change(mask)
    return torch.from_numpy(changed).view(torch.bool)
