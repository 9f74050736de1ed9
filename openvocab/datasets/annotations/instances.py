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
    mask_place: np.ndarray | None = None
    """(M,) int64, places in `masks`."""
    masks: PackedMasks | None = None
    areas: np.ndarray | None = None
    """(M,) float64 square pixels as the file states them; NaN where it does not."""

    def count(self, image: int) -> int:
        """Return how many objects an image has."""
        return int(self.first[image + 1] - self.first[image])

    def classes_of(self, image: int) -> np.ndarray:
        """Return the classes that occur in an image other than as a crowd, ascending, without repetition."""
        rows = slice(self.first[image], self.first[image + 1])
        return np.unique(self.classes[rows][~self.is_crowd[rows]])

    def instances(self, image: int, size: Size) -> Instances:
        """Return the objects of an image of `size` (height, width), with masks where the table has them."""
        rows = slice(self.first[image], self.first[image + 1])
        is_crowd = torch.from_numpy(self.is_crowd[rows].copy())
        is_stated = self.areas is not None and not np.isnan(self.areas[rows]).all()
        return Instances(
            boxes=torch.from_numpy(self.boxes[rows].copy()),
            classes=torch.from_numpy(self.classes[rows].copy()),
            masks=None if self.masks is None else self._decode(rows, size),
            is_crowd=is_crowd if is_crowd.any() else None,
            ids=torch.from_numpy(self.ids[rows].copy()),
            areas=torch.from_numpy(self.areas[rows].copy()) if is_stated else None,
        )

    def _decode(self, rows: slice, size: Size) -> torch.Tensor:
        """Return (N, H, W) bool."""
        masks = np.zeros((rows.stop - rows.start, *size), np.uint8)
        for mask, place in zip(masks, self.mask_place[rows]):
            mask[:] = self.masks.decode(place, size)
        return torch.from_numpy(masks).view(torch.bool)
