"""Label maps that are drawn from the outlines of labeled objects when they are asked for."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from openvocab.datasets.annotations.records import AnnotationList
from openvocab.images.image_io import MAX_PIXELS, BadSample


class ObjectLabelMaps:
    """Draw the label map of an image: the class of each pixel's object.

    The last object of a pixel wins, or the smallest one, as the format of the annotations has it
    (`AnnotationList.later_is_above`).

    Args:
        found: objects with outlines, and images with sizes.
        class_of_id: class of each category; a category that is not in it hides what lies below it, and is unlabeled.
        background: class of the pixels of no object; None: they are unlabeled.
        unlabeled: id of unlabeled pixels: 255, or 65535 above 254 classes.

    Raises:
        ValueError: objects without an outline.
    """

    def __init__(
        self, found: AnnotationList, class_of_id: Mapping[int, int], background: int | None, unlabeled: int
    ) -> None:
        masks = found.columns.masks
        if masks is None or not masks.has_mask.all():
            count = len(found.columns.ids) if masks is None else int((~masks.has_mask).sum())
            raise ValueError(
                f"annotations: {count} of {len(found.columns.ids)} objects are boxes, without an outline; label maps "
                "need outlines: label polygons, or train a detector"
            )
        self._masks, self._columns = masks, found.columns
        self._class_of_id, self.unlabeled = dict(class_of_id), unlabeled
        self._ground = unlabeled if background is None else background
        self._later_is_above = found.later_is_above
        self._sizes = [entry.size for entry in found.images]
        self._position_of = {entry.path: index for index, entry in enumerate(found.images)}
        order = np.argsort(found.columns.image, kind="stable")
        self._rows = order
        self._first = np.searchsorted(found.columns.image[order], np.arange(len(found.images) + 1))

    def __call__(self, path: str | Path, max_pixels: int | None = MAX_PIXELS) -> np.ndarray:
        """Return the class indices (H, W), uint8 or uint16, of the image with this path in the annotations.

        Raises:
            BadSample: more than `max_pixels` pixels, or an encoding of another size.
        """
        position = self._position_of[str(path)]
        size = self._sizes[position]
        assert size is not None  # sizes are complete
        if max_pixels is not None and size[0] * size[1] > max_pixels:
            raise BadSample(path, f"{size[1]} x {size[0]} pixels, more than max_pixels={max_pixels}")
        label_map = np.full(size, self._ground, np.uint8 if self.unlabeled < 256 else np.uint16)
        parts = self._parts(position, size, path)
        if not self._later_is_above:
            parts.sort(key=lambda part: -int(part[1].sum()))  # stable, so that equal ones stay in their order
        for class_index, mask in parts:
            label_map[mask] = class_index
        return label_map

    def _parts(self, position: int, size: tuple[int, int], path: str | Path) -> list[tuple[int, np.ndarray]]:
        """Return class and mask (H, W) bool of every object of an image."""
        parts = []
        for row in self._rows[self._first[position] : self._first[position + 1]]:
            stated = tuple(self._masks.sizes[row].tolist())
            if any(stated) and stated != size:
                raise BadSample(
                    path, f"a run-length encoding of {stated[0]}x{stated[1]}, its image {size[0]}x{size[1]}"
                )
            class_index = self._class_of_id.get(int(self._columns.category[row]), self.unlabeled)
            parts.append((class_index, self._masks.decode(row, size).astype(bool)))
        return parts
