"""The usable objects of a dataset, sorted by image, as arrays that loader workers share."""

from dataclasses import dataclass

import numpy as np
import torch

from openvocab.datasets.annotations.packed_masks import PackedMasks
from openvocab.structures import Instances, Size


@dataclass
class InstanceTable:
    """M objects on I images."""

    first: np.ndarray
    """(I + 1,) int64: image i has the rows first[i] to first[i + 1]."""
    boxes: np.ndarray
    """(M, 4) float32 x1 y1 x2 y2 in pixels, within their image."""
    classes: np.ndarray
    """(M,) int64, indices into the vocabulary."""
    is_crowd: np.ndarray
    """(M,) bool."""
    ids: np.ndarray
    """(M,) int64."""
    mask_index: np.ndarray | None = None
    """(M,) int64, indices into `masks`."""
    masks: PackedMasks | None = None
    areas: np.ndarray | None = None
    """(M,) float64 square pixels as the file states them; NaN if it does not."""

    def __post_init__(self) -> None:
        if (self.masks is None) != (self.mask_index is None):
            raise ValueError("masks and mask_index: expected both or neither")

    def count(self, image: int) -> int:
        """Return how many objects an image has."""
        return int(self.first[image + 1] - self.first[image])

    def classes_of(self, image: int) -> np.ndarray:
        """Return the (K,) distinct classes of an image's objects, ascending, without crowds."""
        rows = slice(self.first[image], self.first[image + 1])
        return np.unique(self.classes[rows][~self.is_crowd[rows]])

    def instances(self, image: int, size: Size) -> Instances:
        """Return the objects of an image of `size` (height, width), with masks if the table has them."""
        rows = slice(self.first[image], self.first[image + 1])
        is_crowd = torch.from_numpy(self.is_crowd[rows].copy())
        areas = None if self.areas is None or np.isnan(self.areas[rows]).all() else self.areas[rows].copy()
        return Instances(
            boxes=torch.from_numpy(self.boxes[rows].copy()),
            classes=torch.from_numpy(self.classes[rows].copy()),
            masks=self._decode(rows, size),
            is_crowd=is_crowd if is_crowd.any() else None,
            ids=torch.from_numpy(self.ids[rows].copy()),
            areas=None if areas is None else torch.from_numpy(areas),
        )

    def _decode(self, rows: slice, size: Size) -> torch.Tensor | None:
        """Return (N, H, W) bool, None if the table has no masks."""
        if self.masks is None or self.mask_index is None:
            return None
        # One allocation for all masks, as bytes: torch then reads them as bool without a copy.
        masks = np.zeros((rows.stop - rows.start, *size), np.uint8)
        for mask, index in zip(masks, self.mask_index[rows]):
            mask[:] = self.masks.decode(index, size)
        return torch.from_numpy(masks).view(torch.bool)
