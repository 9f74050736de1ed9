"""Write the objects of a saved dataset as a COCO file."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from openvocab.files.file_values import numbers, whole_number
from openvocab.images.image_header import read_image_size
from openvocab.images.image_io import BadSample
from openvocab.own_data.table_columns import TableColumns

BOX_FORMATS = ("xywh", "xyxy")
"""A corner and the size, as in COCO; or two corners, as in Pascal VOC."""
_ROUNDING = 1.0
"""Pixels by which a rounded box may extend beyond its image."""


@dataclass(frozen=True)
class TableImage:
    """An image of a saved dataset that has been written into a file, with its labels."""

    path: Path
    row: int
    """In its part."""
    labels: Any
    """Value of the column of labels."""
    where: str
    """The row, for errors."""


class BoxEvidence:
    """How many boxes lie in their images as a corner and a size, and how many as two corners."""

    def __init__(self) -> None:
        self._fitting = dict.fromkeys(BOX_FORMATS, 0)
        self._total = 0

    def add(self, boxes: Sequence[Sequence[float]], image: Path) -> None:
        """Count the boxes of an image, unless its size cannot be read."""
        try:
            height, width = read_image_size(image)
        except BadSample:
            return
        x, y, third, fourth = np.array(boxes, np.float64).T
        inside = np.array([width, height]) + _ROUNDING
        self._total += len(boxes)
        self._fitting["xywh"] += int(((third > 0) & (fourth > 0) & _below(x + third, y + fourth, inside)).sum())
        self._fitting["xyxy"] += int(((third > x) & (fourth > y) & _below(third, fourth, inside)).sum())

    def check(self, where: str) -> None:
        """Check that the boxes are rather a corner and a size than two corners.

        Raises:
            ValueError: more boxes lie in their images as two corners.
        """
        if self._fitting["xyxy"] > self._fitting["xywh"]:
            raise ValueError(
                f"data: {where}: {self._fitting['xywh']} of {self._total} boxes lie in their images as x, y, width, "
                f"height, but {self._fitting['xyxy']} as two corners; pass a data file with box_format: xyxy (or xywh)"
            )


def write_boxes(
    images: Iterator[TableImage],
    path: Path,
    columns: TableColumns,
    names: Mapping[int, str] | None,
    box_format: str | None,
    evidence: BoxEvidence,
) -> None:
    """Write the objects of images as a COCO file, one object at a time.

    Args:
        images: in one folder.
        path: the file.
        columns: the column of objects, and the fields of one.
        names: of the categories, by their numbers, if the dataset does not name them.
        box_format: one of `BOX_FORMATS`; None: xywh.
        evidence: counts the boxes.

    Raises:
        ValueError: an object without a box of four numbers, or without a category that has a name.
    """
    categories = _Categories(names if columns.names is None else dict(enumerate(columns.names)))
    entries: list[dict[str, Any]] = []
    with path.open("w", encoding="utf-8") as file:
        file.write('{"annotations": [')
        count = 0
        for image in images:
            entries.append({"id": image.row, "file_name": image.path.name})
            boxes = []
            for box, category in _objects(image, columns):
                category_id = categories.id_of(category, f"{image.where}: {columns.category}")
                boxes.append(numbers(box, f"{image.where}: {columns.box}", 4))
                _write_object(file, count, image.row, category_id, _xywh(boxes[-1], box_format))
                count += 1
            if boxes:
                evidence.add(boxes, image.path)
        file.write('], "images": ')
        json.dump(entries, file)
        file.write(', "categories": ')
        json.dump(categories.entries(), file)
        file.write("}")


def _write_object(file: IO[str], number: int, image_id: int, category_id: int, box: Sequence[float]) -> None:
    file.write(",\n" if number else "\n")
    json.dump({"id": number, "image_id": image_id, "category_id": category_id, "bbox": box}, file)


def _xywh(box: Sequence[float], box_format: str | None) -> list[float]:
    x, y, third, fourth = box
    return [x, y, third - x, fourth - y] if box_format == "xyxy" else [x, y, third, fourth]


def _objects(image: TableImage, columns: TableColumns) -> Iterator[tuple[Any, Any]]:
    """Yield box and category of each object: of a list of objects, or of an object of lists."""
    value = image.labels
    if isinstance(value, Mapping):
        boxes, categories = value[columns.box] or [], value[columns.category] or []
        if len(boxes) != len(categories):
            raise ValueError(f"{image.where} has {len(boxes)} boxes, but {len(categories)} categories")
        yield from zip(boxes, categories)
        return
    for one in value or ():
        if one is None:
            raise ValueError(f"{image.where} has an object that is null")
        yield one[columns.box], one[columns.category]


class _Categories:
    """The categories of a COCO file: numbers with names, or the names that the objects have."""

    def __init__(self, names: Mapping[int, str] | None) -> None:
        self._names = names
        self._found: dict[str, int] = {}

    def id_of(self, value: Any, where: str) -> int:
        """Return the id of a number or name.

        Raises:
            ValueError: a number without a name, or neither.
        """
        if isinstance(value, str):
            return self._found.setdefault(value, len(self._found))
        number = whole_number(value, where)
        if self._names is None:
            raise ValueError(
                f"{where}: {number} has no name in the dataset; put a names.txt into its folder, one name per line in "
                "the order of the numbers, or pass a data file with names"
            )
        if number not in self._names:
            raise ValueError(
                f"{where}: {number} has no name; numbers with names: {', '.join(map(str, self._names))[:60]}"
            )
        return number

    def entries(self) -> list[dict[str, Any]]:
        """Return the categories of the file."""
        names = {number: name for name, number in self._found.items()} or self._names or {}
        return [{"id": number, "name": name} for number, name in names.items()]


def _below(x: np.ndarray, y: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Return which points (M,) lie within limits (width, height)."""
    result: np.ndarray = (x <= limits[0]) & (y <= limits[1])
    return result
