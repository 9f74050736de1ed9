"""The labeled objects of a dataset as its files state them, whatever their format: columns, not dicts."""

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from openvocab.datasets.annotations.packed_masks import PackedMasks
from openvocab.images.image_io import BadSample
from openvocab.structures import Size


@dataclass
class ImageEntry:
    """One image of an annotation file."""

    image_id: str
    """As in the file; the file's stem where it has none."""
    path: str
    """Below the folder of images."""
    size: Size | None = None
    """(height, width); None where the annotations do not say."""
    negative: tuple[int, ...] | None = None
    """Category ids that are known to be absent; None where all that are not labeled are (LVIS says which)."""
    not_exhaustive: tuple[int, ...] = ()
    """Category ids of which some objects lack a label."""


@dataclass
class AnnotationList:
    """M objects on I images, of C categories; objects of an image may lie anywhere."""

    images: list[ImageEntry]
    category_names: list[str]
    category_ids: list[int]
    """(C,) as in the file, in any order, with or without holes."""
    columns: "Columns"
    frequencies: dict[int, str] = field(default_factory=dict)
    """Letter r, c or f of each category id, where the file says it (LVIS)."""
    notes: list[str] = field(default_factory=list)
    """What the log should say of the file."""
    root_id: int | None = None
    """Of the category that is the supercategory of all others, where there is one; see `settle_root`."""


class Columns:
    """One row an object. Rows are appended, then `freeze` makes arrays of them.

    Args:
        with_masks: keep the segmentations.
    """

    def __init__(self, with_masks: bool) -> None:
        self.image: array | np.ndarray = array("q")
        """(M,) positions in the list of images; its ids until a reader has looked them up."""
        self.category: array | np.ndarray = array("q")
        """(M,) category ids."""
        self.boxes: array | np.ndarray = array("d")
        """(M, 4) float64 x1 y1 x2 y2 in pixels."""
        self.is_crowd: array | np.ndarray = array("b")
        """(M,) bool."""
        self.ids: array | np.ndarray = array("q")
        """(M,) ids of the annotations."""
        self.areas: array | np.ndarray = array("d")
        """(M,) float64 square pixels as the file states them; NaN where it does not."""
        self.masks = PackedMasks() if with_masks else None

    def __len__(self) -> int:
        return len(self.ids)

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
        """Add a row of values that were read by `file_values`; `annotation_id` counts from 1 where the file has none.

        Raises:
            ValueError: a segmentation that is none (see `PackedMasks.append`).
            OverflowError: a coordinate beyond all floats.
        """
        x1, y1, x2, y2 = box
        self.boxes.extend((x1, y1, x2, y2))
        self.image.append(image)
        self.category.append(category)
        self.is_crowd.append(is_crowd)
        self.areas.append(area)
        self.ids.append(len(self.ids) + 1 if annotation_id is None else annotation_id)
        if self.masks is not None:
            self.masks.append(segmentation)

    def freeze(self) -> None:
        """Turn the columns into arrays."""
        self.image, self.category, self.ids = (
            np.frombuffer(column, np.int64) if column else np.zeros(0, np.int64)
            for column in (self.image, self.category, self.ids)
        )
        self.boxes = np.array(self.boxes, np.float64).reshape(-1, 4)
        self.is_crowd, self.areas = np.array(self.is_crowd, bool), np.array(self.areas, np.float64)
        if self.masks is not None:
            self.masks.freeze()


def raise_bad(error: BadSample) -> None:
    """Raise what is wrong with a file of one image: what readers of annotations do unless they are told otherwise."""
    raise error


def note_lonely(labels: Mapping[str, Path], images: Mapping[str, Path], kind: str) -> list[str]:
    """Return what the log should say of label files that belong to no image: they are left out.

    Raises:
        FileNotFoundError: none belongs to one.
    """
    lonely = [path for key, path in labels.items() if key not in images]
    if lonely and len(lonely) == len(labels):
        raise FileNotFoundError(
            f"annotations: none of the {len(labels)} {kind}s belongs to one of the {len(images)} images: no image for "
            f"{lonely[0]}; the two need the same path below their folder"
        )
    return [f"{len(lonely)} {kind}s without an image are left out, the first is {lonely[0].name}"] if lonely else []
