"""COCO and LVIS JSON files, read and checked."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from openvocab.datasets.annotations.box_checks import check_are_pixels
from openvocab.datasets.annotations.json_stream import read_members
from openvocab.datasets.annotations.records import AnnotationList, Columns, ImageEntry
from openvocab.files.file_values import flag, number, numbers, whole_number
from openvocab.structures import Size
from openvocab.vocabulary.vocabulary import has_visible_character, same_name_key

MEMBERS = ("images", "annotations", "categories")
MAX_SIDE = 2**31
FREQUENCIES = ("r", "c", "f")
NO_PARENT = {"", "none"}
"""What stands for the supercategory of a category that has none."""


@dataclass
class _Category:
    """A category of the file."""

    id: int
    name: str
    parent: str
    """Its supercategory, "" where the file states none."""
    frequency: str | None
    """Letter r, c or f, where the file states it (LVIS)."""


def read_coco(path: str | Path, with_masks: bool) -> AnnotationList:
    """Read a file in COCO's format, or LVIS v1's, which adds lists of categories to the images.

    Ids may have holes and come in any order; annotations without ids are numbered from 1. An LVIS image without
    `file_name` lies where its `coco_url` says, in `train2017/` or `val2017/`. A category that is the supercategory of
    all others, which exports of Roboflow begin with, is marked as their root.

    Args:
        path: the JSON file.
        with_masks: keep polygons and run-length encodings.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not JSON, or not of this format; an id that is given twice, or to some annotations only; an
            annotation of an image or a category that the file does not list; boxes as shares of the image. The message
            names the first one and says how many there are. One file holds the labels of all images, so nothing in it
            is skipped.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"annotations: no file {path}; prepare the dataset or point annotations to it")
    images, categories, columns = [], [], Columns(with_masks)
    found = set()
    for key, value in read_members(path, streamed=("annotations",)):
        found.add(key)
        if key in MEMBERS and not isinstance(value, Iterator | list):
            raise ValueError(f"{path}: expected a list under {key!r}, got {type(value).__name__}")
        if key == "images":
            images = [_image(entry, path) for entry in value]
        elif key == "categories":
            categories = [_category(entry, path) for entry in value]
        elif key == "annotations":
            _read_annotations(value, columns, path)
    missing = [key for key in MEMBERS if key not in found]
    if missing:
        raise ValueError(f"{path}: a COCO file has {', '.join(MEMBERS)}; {', '.join(missing)} are not there")
    columns.freeze()
    return _related(images, categories, columns, path)


def _related(
    images: list[tuple[int, ImageEntry]], categories: list[_Category], columns: Columns, path: Path
) -> AnnotationList:
    """Check that ids are given once and that every annotation has its image and category; put all together."""
    category_ids = [category.id for category in categories]
    _check_unique([image_id for image_id, _ in images], "image id", path)
    _check_unique(category_ids, "category id", path)
    _check_unique(columns.ids.tolist(), "annotation id", path)
    columns.image = _positions(columns, columns.image, [image_id for image_id, _ in images], "image", path)
    _positions(columns, columns.category, category_ids, "category", path)
    check_are_pixels(columns.boxes, str(path))
    return AnnotationList(
        [entry for _, entry in images],
        [category.name for category in categories],
        [category.id for category in categories],
        columns,
        {category.id: category.frequency for category in categories if category.frequency is not None},
        _drop_impossible_areas(columns),
        _root_id(categories),
    )


def _take_id(entry: dict[str, Any], kind: str, path: Path) -> int:
    return whole_number(_take(entry, "id", path), f"{path}: {kind} id")


def _category(entry: dict[str, Any], path: Path) -> _Category:
    category_id, name = _take_id(entry, "category", path), _take(entry, "name", path)
    if isinstance(name, bool) or not isinstance(name, (str, int, float)):
        raise ValueError(f"{path}: expected a string as the name of category {category_id}, got {str(name)[:60]}")
    if not has_visible_character(str(name)):
        raise ValueError(f"{path}: category {category_id} has an empty name ({str(name)[:60]!r}); give it one")
    parent, frequency = entry.get("supercategory"), entry.get("frequency")
    if frequency not in (None, *FREQUENCIES):
        shown = str(frequency)[:60]
        raise ValueError(
            f"{path}: category {category_id}: expected one of the frequencies {FREQUENCIES}, got {shown!r}"
        )
    return _Category(category_id, str(name), parent if isinstance(parent, str) else "", frequency)


def _root_id(categories: Sequence[_Category]) -> int | None:
    """Return the id of the category that has no supercategory and is that of all others, None where there is none.

    Which it is, the categories alone say: the objects differ between the files of a dataset.
    """
    roots = [category for category in categories if category.parent.lower() in NO_PARENT]
    parents = {same_name_key(category.parent) for category in categories if category.parent.lower() not in NO_PARENT}
    return roots[0].id if len(roots) == 1 and parents == {same_name_key(roots[0].name)} else None


def _image(entry: dict[str, Any], path: Path) -> tuple[int, ImageEntry]:
    """Return the id of an image and what the file says of it."""
    image_id = _take_id(entry, "image", path)
    name = entry.get("file_name") or "/".join(str(entry.get("coco_url", "")).split("/")[-2:])
    if not name or not isinstance(name, str):
        raise ValueError(f"{path}: image {image_id} has no string under 'file_name' or 'coco_url'")
    negative = entry.get("neg_category_ids")
    return image_id, ImageEntry(
        image_id=str(image_id),
        path=name,
        size=_size(entry, f"{path}: image {image_id} ({name})"),
        negative=None if negative is None else _ids(negative, f"{path}: image {image_id}: neg_category_ids"),
        not_exhaustive=_ids(
            entry.get("not_exhaustive_category_ids") or [], f"{path}: image {image_id}: not_exhaustive_category_ids"
        ),
    )


def _size(entry: dict[str, Any], place: str) -> Size | None:
    """Return (height, width), None where the file does not say them (nothing, null or 0)."""
    stated = entry.get("height"), entry.get("width")
    try:
        height, width = (0 if side in (None, "") else whole_number(side, "a side") for side in stated)
    except ValueError:
        height = width = -1
    if height == 0 or width == 0:
        return None
    if not (0 < height < MAX_SIDE and 0 < width < MAX_SIDE):
        raise ValueError(
            f"{place}: expected a height and a width in pixels, got {str(stated)[:60]}; without the two members they "
            "are read from the image"
        )
    return height, width


def _ids(values: Any, place: str) -> tuple[int, ...]:
    if not isinstance(values, list):
        raise ValueError(f"{place}: expected a list of category ids, got {str(values)[:60]}")
    return tuple(whole_number(value, place) for value in values)


def _read_annotations(annotations: Iterator[dict[str, Any]], columns: Columns, path: Path) -> None:
    without_id: list[int] = []
    for place, entry in enumerate(annotations):
        try:
            left, top, width, height = numbers(entry["bbox"], "bbox", 4)
            own_id, area = entry.get("id"), entry.get("area")
            without_id += [place] if own_id is None else []
            columns.append(
                whole_number(entry["image_id"], "image_id"),
                whole_number(entry["category_id"], "category_id"),
                (left, top, left + width, top + height),
                flag(entry.get("iscrowd"), "iscrowd"),
                None if own_id is None else whole_number(own_id, "id"),
                entry.get("segmentation") if columns.masks is not None else None,
                math.nan if area is None or area is False else number(area, "area"),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(
                f"{path}: annotation {place} (from 0) is not in COCO's format: {reason}; it needs image_id, "
                "category_id and bbox [left, top, width, height]"
            ) from error
    if 0 < len(without_id) < len(columns):
        raise ValueError(
            f"{path}: {len(without_id)} of {len(columns)} annotations have no id, the first is annotation "
            f"{without_id[0]} (from 0); give all of them one, or none"
        )


def _drop_impossible_areas(columns: Columns) -> list[str]:
    """Take areas that are negative or not finite for not stated; return what the log should say of them."""
    impossible = (columns.areas < 0) | np.isinf(columns.areas)
    columns.areas[impossible] = math.nan
    count = int(impossible.sum())
    return [f"{count} areas that are negative or infinite do not count, they are measured"] if count else []


def _take(entry: dict[str, Any], key: str, path: Path) -> Any:
    if not isinstance(entry, dict) or key not in entry:
        raise ValueError(f"{path}: an entry lacks {key!r}: {str(entry)[:80]}")
    return entry[key]


def _check_unique(values: Sequence[int], kind: str, path: Path) -> None:
    if len(set(values)) == len(values):
        return
    twice = [value for value, count in Counter(values).items() if count > 1]
    raise ValueError(
        f"{path}: {len(twice)} {kind}s are given more than once, the first is {twice[0]!r}; labels could not be told "
        "apart, give every entry its own"
    )


def _positions(columns: Columns, wanted: np.ndarray, known: Iterable[int], kind: str, path: Path) -> np.ndarray:
    """Return the position of each id of `wanted` in `known`."""
    known = np.fromiter(known, np.int64)
    order = np.argsort(known)
    place = np.searchsorted(known, wanted, sorter=order).clip(max=max(len(known) - 1, 0))
    found = known[order[place]] == wanted if len(known) else np.zeros(len(wanted), bool)
    if not found.all():
        first = int(np.flatnonzero(~found)[0])
        raise ValueError(
            f"{path}: {int((~found).sum())} annotations are of a {kind} that the file does not list; the first is "
            f"annotation {columns.ids[first]} with {kind}_id {wanted[first]}. Remove them or add the {kind}"
        )
    return order[place] if len(known) else wanted
