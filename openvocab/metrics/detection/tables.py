"""Labels and detections of many images as arrays: what every detection metric works on."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
from pycocotools import mask as rle


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
    """N counts of COCO's compressed run-length encoding; empty where no metric will look."""


@dataclass
class DetectionTables:
    """Everything that a metric knows of a set of images."""

    sample_ids: list[str]
    """I names."""
    sizes: np.ndarray
    """(I, 2) int32, height and width."""
    labels: Labels
    detections: Detections
    negative: np.ndarray
    """(M, 2) int32: (image, class) pairs verified to be absent."""
    not_exhaustive: np.ndarray
    """(M, 2) int32: (image, class) pairs of which some objects may be unlabeled."""


Rows = TypeVar("Rows", Labels, Detections)


def merge_tables(parts: Sequence[DetectionTables]) -> DetectionTables:
    """Put tables together, images in the order of their names: neither ranks nor batches can change a number.

    An image that occurs more than once (a sampler fills up the last batch) counts once. Names of digits are in numeric
    order.
    """
    offsets = np.cumsum([0] + [len(part.sample_ids) for part in parts]).tolist()
    names = [name for part in parts for name in part.sample_ids]
    first = {name: index for index, name in reversed(list(enumerate(names)))}
    kept = sorted(first, key=lambda name: (len(name), name))
    chosen = np.array([first[name] for name in kept], dtype=np.int64)
    position = np.full(len(names), -1, dtype=np.int32)
    position[chosen] = np.arange(len(kept))
    return DetectionTables(
        kept,
        np.concatenate([part.sizes for part in parts])[chosen],
        _move(_join([part.labels for part in parts], offsets), position),
        _move(_join([part.detections for part in parts], offsets), position),
        _move_pairs([part.negative for part in parts], offsets, position),
        _move_pairs([part.not_exhaustive for part in parts], offsets, position),
    )


def take_rows(rows: Rows, index: np.ndarray) -> Rows:
    """Return the rows at `index`, integers, in that order."""
    values = {field.name: getattr(rows, field.name) for field in fields(rows)}
    masks = values.pop("masks")
    taken = {name: value[index] for name, value in values.items()}
    return type(rows)(**taken, masks=None if masks is None else [masks[i] for i in index.tolist()])


def box_areas(boxes: np.ndarray) -> np.ndarray:
    """Return the areas (N,) float64 of boxes x1 y1 x2 y2 (N, 4)."""
    return (boxes[:, 2:].astype(np.float64) - boxes[:, :2]).prod(1)


def encoded_masks(rows: Labels | Detections, sizes: np.ndarray) -> list[dict[str, Any]]:
    """Return the masks as pycocotools reads them, with the sizes (I, 2) of their images."""
    frames = sizes.tolist()
    return [{"size": frames[image], "counts": mask} for image, mask in zip(rows.images.tolist(), rows.masks)]


def mask_areas(masks: Sequence[dict[str, Any]]) -> np.ndarray:
    """Return the areas (N,) float64 of encoded masks."""
    return np.array([rle.area(mask) for mask in masks], dtype=np.float64)  # of a list it fails from 256 masks up


def _join(parts: Sequence[Rows], offsets: Sequence[int]) -> Rows:
    joined = {
        field.name: np.concatenate([getattr(part, field.name) for part in parts])
        for field in fields(parts[0])
        if field.name not in ("images", "masks")
    }
    images = np.concatenate([part.images + offset for part, offset in zip(parts, offsets)], dtype=np.int32)
    masks = None if parts[0].masks is None else [mask for part in parts for mask in part.masks]
    return type(parts[0])(images=images, masks=masks, **joined)


def _move(rows: Rows, position: np.ndarray) -> Rows:
    """Give the rows of image i the image `position[i]`, ascending; those of -1 are dropped."""
    images = position[rows.images]
    if not images.size or (images[0] >= 0 and (images[1:] >= images[:-1]).all()):
        return replace(rows, images=images)
    order = np.argsort(images, kind="stable")
    order = order[images[order] >= 0]
    return replace(take_rows(rows, order), images=images[order])


def _move_pairs(parts: Sequence[np.ndarray], offsets: Sequence[int], position: np.ndarray) -> np.ndarray:
    pairs = np.concatenate([part + (offset, 0) for part, offset in zip(parts, offsets)], dtype=np.int32)
    pairs[:, 0] = position[pairs[:, 0]]
    pairs = pairs[pairs[:, 0] >= 0]
    return pairs[np.argsort(pairs[:, 0], kind="stable")]
