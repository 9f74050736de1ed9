"""Labels and detections of many images as arrays, the inputs of all detection metrics."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
from pycocotools import mask as rle

from openvocab.structures import known


@dataclass
class Labels:
    """The labeled objects of many images."""

    images: np.ndarray
    """(L,) int32, positions of their images, ascending."""
    classes: np.ndarray
    """(L,) int32."""
    boxes: np.ndarray
    """(L, 4) floating point, x1 y1 x2 y2 in pixels."""
    areas: np.ndarray
    """(L,) float64 square pixels; decides what is small, medium and large."""
    is_crowd: np.ndarray
    """(L,) bool."""
    masks: list[bytes] | None = None
    """L counts of COCO's compressed run-length encoding."""


@dataclass
class Detections:
    """The detected objects of many images, in each image the best score first."""

    images: np.ndarray
    """(N,) int32, positions of their images, ascending."""
    classes: np.ndarray
    """(N,) int32."""
    boxes: np.ndarray
    """(N, 4) floating point, x1 y1 x2 y2 in pixels."""
    scores: np.ndarray
    """(N,) floating point."""
    masks: list[bytes] | None = None
    """N counts of COCO's compressed run-length encoding; empty for masks that no metric reads."""


@dataclass
class DetectionTables:
    """Labels and detections of I images."""

    sample_ids: list[str]
    """I unique ids."""
    sizes: np.ndarray
    """(I, 2) int32, height and width."""
    labels: Labels
    detections: Detections
    negative: np.ndarray
    """(M, 2) int32: (image, class) pairs verified to be absent."""
    not_exhaustive: np.ndarray
    """(M, 2) int32: (image, class) pairs for which objects may be unlabeled."""


Rows = TypeVar("Rows", Labels, Detections)


def merge_tables(parts: Sequence[DetectionTables]) -> DetectionTables:
    """Merge tables. Images are sorted by their ids, so that the results do not depend on ranks and batches.

    An image that occurs more than once, since a sampler filled up the last batch, is kept once. Ids of digits are in
    numeric order.
    """
    offsets = np.cumsum([0] + [len(part.sample_ids) for part in parts]).tolist()
    names = [name for part in parts for name in part.sample_ids]
    # Reversed, so that the first of several equal ids stays in the dict.
    first = {name: index for index, name in reversed(list(enumerate(names)))}
    # By length first: "9" comes before "10".
    unique_names = sorted(first, key=lambda name: (len(name), name))
    source = np.array([first[name] for name in unique_names], dtype=np.int64)
    position = np.full(len(names), -1, dtype=np.int32)  # -1 for repeated images
    position[source] = np.arange(len(unique_names))
    return DetectionTables(
        unique_names,
        np.concatenate([part.sizes for part in parts])[source],
        _move(_join([part.labels for part in parts], offsets), position),
        _move(_join([part.detections for part in parts], offsets), position),
        _move_pairs([part.negative for part in parts], offsets, position),
        _move_pairs([part.not_exhaustive for part in parts], offsets, position),
    )


def take_rows(rows: Rows, index: np.ndarray) -> Rows:
    """Return the rows at `index` (M,) integers, in that order."""
    values = {field.name: getattr(rows, field.name) for field in fields(rows)}
    masks = values.pop("masks")
    taken = {name: value[index] for name, value in values.items()}
    return type(rows)(**taken, masks=None if masks is None else [masks[i] for i in index.tolist()])


def box_areas(boxes: np.ndarray) -> np.ndarray:
    """Return the areas (N,) float64 of boxes x1 y1 x2 y2 (N, 4)."""
    # float64 before the product: of large boxes float32 would round the area.
    return (boxes[:, 2:].astype(np.float64) - boxes[:, :2]).prod(1)


def encoded_masks(rows: Labels | Detections, sizes: np.ndarray) -> list[dict[str, Any]]:
    """Return the N masks in pycocotools' form, given the sizes (I, 2) of the images.

    Raises:
        ValueError: the rows have no masks.
    """
    frames, masks = sizes.tolist(), known(rows.masks, f"masks of {type(rows).__name__}")
    return [{"size": frames[image], "counts": mask} for image, mask in zip(rows.images.tolist(), masks)]


def mask_areas(masks: Sequence[dict[str, Any]]) -> np.ndarray:
    """Return the areas (N,) float64 of N encoded masks."""
    # one by one: rle.area fails for a list of 256 masks or more
    return np.array([rle.area(mask) for mask in masks], dtype=np.float64)


def _join(parts: Sequence[Rows], offsets: Sequence[int]) -> Rows:
    """Concatenate rows, whose positions of images are moved by the offset of their part."""
    joined = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts])
        for field in fields(parts[0])
        if field.name not in ("images", "masks")
    }
    images = np.concatenate([part.images + offset for part, offset in zip(parts, offsets)], dtype=np.int32)
    masks = None
    if parts[0].masks is not None:
        masks = [mask for part in parts for mask in known(part.masks, "masks of all tables")]
    return type(parts[0])(images=images, masks=masks, **joined)


def _move(rows: Rows, position: np.ndarray) -> Rows:
    """Return the rows with image i moved to `position[i]`, sorted by image; rows of position -1 are dropped."""
    images = position[rows.images]
    if not images.size or (images[0] >= 0 and (images[1:] >= images[:-1]).all()):
        return replace(rows, images=images)
    # Stable, so that detections of an image stay sorted by score.
    order = np.argsort(images, kind="stable")
    order = order[images[order] >= 0]
    return replace(take_rows(rows, order), images=images[order])


def _move_pairs(parts: Sequence[np.ndarray], offsets: Sequence[int], position: np.ndarray) -> np.ndarray:
    """Return (image, class) pairs (M, 2) of all parts with their images moved as by `_move`."""
    pairs = np.concatenate([part + (offset, 0) for part, offset in zip(parts, offsets)], dtype=np.int32)
    pairs[:, 0] = position[pairs[:, 0]]
    pairs = pairs[pairs[:, 0] >= 0]
    return pairs[np.argsort(pairs[:, 0], kind="stable")]
