"""The labeled objects of a dataset as its files state them, whatever their format; stored in columns, not dicts."""

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from openvocab.datasets.annotations.packed_masks import MaskPacker, PackedMasks
from openvocab.images.image_io import BadSample
from openvocab.structures import Size


@dataclass
class ImageEntry:
    """One image of an annotation file."""

    image_id: str
    """As in the annotation file; the stem of the image file if there is none."""
    path: str
    """Relative to the folder of images."""
    size: Size | None = None
    """(height, width); None if the annotations do not state it."""
    negative: tuple[int, ...] | None = None
    """Category ids that are known to be absent (LVIS); None if every category without a label is absent."""
    not_exhaustive: tuple[int, ...] = ()
    """Category ids of which some objects lack a label."""


@dataclass
class Columns:
    """M objects, one row per object."""

    image: np.ndarray
    """(M,) int64 positions in the list of images; until a reader has looked these up, ids of images."""
    category: np.ndarray
    """(M,) int64 category ids."""
    boxes: np.ndarray
    """(M, 4) float64 x1 y1 x2 y2 in pixels."""
    is_crowd: np.ndarray
    """(M,) bool."""
    ids: np.ndarray
    """(M,) int64 ids of the annotations."""
    areas: np.ndarray
    """(M,) float64 square pixels as the file states them; NaN if it does not."""
    masks: PackedMasks | None
    """Masks of the M objects; None if segmentations are not read."""

    def subset(self, rows: np.ndarray) -> "Columns":
        """Return the objects at (N,) `rows`."""
        return Columns(
            self.image[rows],
            self.category[rows],
            self.boxes[rows],
            self.is_crowd[rows],
            self.ids[rows],
            self.areas[rows],
            None if self.masks is None else self.masks.subset(rows),
        )


@dataclass
class AnnotationList:
    """M objects on I images, of C categories; the objects may come in any order."""

    images: list[ImageEntry]
    category_names: list[str]
    category_ids: list[int]
    """(C,) as in the file, in any order, with or without gaps."""
    columns: Columns
    frequencies: dict[int, str] = field(default_factory=dict)
    """Letter r, c or f of each category id, if the file states it (LVIS)."""
    notes: list[str] = field(default_factory=list)
    """Remarks on the file, for the log."""
    root_id: int | None = None
    """Id of the category that is the supercategory of all others, if there is one; see `drop_root_category`."""
    later_is_above: bool = False
    """Whether a later object of an image lies above an earlier one; if not, a smaller one lies above a larger one."""


class ColumnsBuilder:
    """Collects objects row by row.

    Args:
        with_masks: keep the segmentations.
    """

    def __init__(self, with_masks: bool) -> None:
        # arrays of numbers, since the 1.3 million rows of LVIS would take gigabytes as Python objects
        self._image, self._category, self._ids = array("q"), array("q"), array("q")
        self._boxes, self._areas = array("d"), array("d")
        self._is_crowd = array("b")
        self._masks = MaskPacker() if with_masks else None

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def with_masks(self) -> bool:
        """Whether the segmentations are kept."""
        return self._masks is not None

    def append(
        self,
        image: int,
        category: int,
        box: Sequence[float],
        is_crowd: bool = False,
        annotation_id: int | None = None,
        segmentation: list | dict | None = None,
        area: float = math.nan,
    ) -> None:
        """Add a row of values that `file_values` has read.

        Args:
            image, category: see `Columns`.
            box: x1 y1 x2 y2 in pixels.
            is_crowd: whether the object is a crowd.
            annotation_id: default: the number of the row, from 1.
            segmentation: see `MaskPacker.append`.
            area: area in square pixels.

        Raises:
            ValueError: a malformed segmentation (see `MaskPacker.append`).
            OverflowError: a coordinate beyond the range of floats.
        """
        x1, y1, x2, y2 = box
        self._boxes.extend((x1, y1, x2, y2))
        self._image.append(image)
        self._category.append(category)
        self._is_crowd.append(is_crowd)
        self._areas.append(area)
        self._ids.append(len(self._ids) + 1 if annotation_id is None else annotation_id)
        if self._masks is not None:
            self._masks.append(segmentation)

    def build(self) -> Columns:
        """Return the rows as arrays."""
        image, category, ids = (
            # frombuffer rejects an empty buffer; otherwise it shares the memory of the array.
            np.frombuffer(column, np.int64) if column else np.zeros(0, np.int64)
            for column in (self._image, self._category, self._ids)
        )
        return Columns(
            image,
            category,
            np.array(self._boxes, np.float64).reshape(-1, 4),
            np.array(self._is_crowd, bool),
            ids,
            np.array(self._areas, np.float64),
            None if self._masks is None else self._masks.build(),
        )


def raise_bad(error: BadSample) -> None:
    """Raise the error of one image's files: the default `on_bad` of the functions that read annotations."""
    raise error


def note_orphans(labels: Mapping[str, Path], images: Mapping[str, Path], file_type: str) -> list[str]:
    """Return a note for the log on orphan labels, which are skipped.

    Args:
        labels, images: files by key.
        file_type: type of the label files, for messages: "XML file".

    Raises:
        FileNotFoundError: no label file belongs to an image.
    """
    orphans = [path for key, path in labels.items() if key not in images]
    if orphans and len(orphans) == len(labels):
        raise FileNotFoundError(
            f"annotations: none of the {len(labels)} {file_type}s belongs to one of the {len(images)} images: no image "
            f"for {orphans[0]}; the two need the same path relative to their folders"
        )
    if not orphans:
        return []
    return [f"{len(orphans)} {file_type}s without an image are skipped; the first is {orphans[0].name}"]
