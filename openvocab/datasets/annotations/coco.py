"""COCO and LVIS JSON files, read and checked."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from openvocab.argument_checks import check_choice
from openvocab.datasets.annotations.box_checks import check_are_pixels
from openvocab.datasets.annotations.json_stream import read_members
from openvocab.datasets.annotations.records import AnnotationList, Columns, ColumnsBuilder, ImageEntry
from openvocab.files.file_values import flag, number, numbers, whole_number
from openvocab.structures import Size
from openvocab.vocabulary.vocabulary import has_visible_character, same_name_key

MEMBERS = ("images", "annotations", "categories")
MAX_SIDE = 2**31
FREQUENCIES = ("r", "c", "f")
NO_PARENT = {"", "none"}
"""Values of `supercategory` that mean none."""


@dataclass
class _Category:
    """One category of the file."""

    id: int
    name: str
    parent: str
    """Its supercategory, "" if the file states none."""
    frequency: str | None
    """Letter r, c or f, if the file states it (LVIS)."""


def read_coco(path: str | Path, with_masks: bool) -> AnnotationList:
    """Read a file in COCO's format, or LVIS v1's, which adds lists of categories to the images.

    Ids may have gaps and come in any order; annotations without ids are numbered from 1. The path of an LVIS image
    without `file_name` is the end of its `coco_url`, in `train2017/` or `val2017/`. A category that is the
    supercategory of all others, as in exports of Roboflow, is marked as the root.

    Args:
        path: the JSON file.
        with_masks: keep polygons and run-length encodings.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not JSON, or not of this format; an id that is given twice, or to some annotations only; an
            annotation of an image or a category that the file does not list; boxes in fractions of the image. The
            message names the first one and their number. One file holds the labels of all images, so nothing in it is
            skipped.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"annotations: no file {path}; prepare the dataset or point annotations to it")
    images: list[tuple[int, ImageEntry]] = []
    categories: list[_Category] = []
    builder = ColumnsBuilder(with_masks)
    members = set()
    for key, value in read_members(path, streamed=("annotations",)):
        members.add(key)
        if key in MEMBERS and not isinstance(value, Iterator | list):
            raise ValueError(f"{path}: expected a list under {key!r}, got {type(value).__name__}")
        if key == "images":
            images = [_image(entry, path) for entry in value]
        elif key == "categories":
            categories = [_category(entry, path) for entry in value]
        elif key == "annotations":
            _read_annotations(value, builder, path)
    missing = [key for key in MEMBERS if key not in members]
    if missing:
        raise ValueError(f"{path}: a COCO file has {', '.join(MEMBERS)}; {', '.join(missing)} are missing")
    return _annotation_list(images, categories, builder.build(), path)


def _annotation_list(
    images: list[tuple[int, ImageEntry]], categories: list[_Category], columns: Columns, path: Path
) -> AnnotationList:
    """Check that ids are unique and that every annotation has its image and category; return all of them."""
    image_ids = [image_id for image_id, _ in images]
    category_ids = [category.id for category in categories]
    _check_unique(image_ids, "image id", path)
    _check_unique(category_ids, "category id", path)
    _check_unique(columns.ids.tolist(), "annotation id", path)
    columns.image = _positions(columns, columns.image, image_ids, "image", path)
    _positions(columns, columns.category, category_ids, "category", path)
    check_are_pixels(columns.boxes, str(path))
    return AnnotationList(
        [entry for _, entry in images],
        [category.name for category in categories],
        category_ids,
        columns,
        {category.id: category.frequency for category in categories if category.frequency is not None},
        _drop_impossible_areas(columns),
        _root_id(categories),
    )


def _entry_id(entry: dict[str, Any], noun: str, path: Path) -> int:
    return whole_number(_member(entry, "id", path), f"{path}: {noun} id")


def _category(entry: dict[str, Any], path: Path) -> _Category:
    category_id, name = _entry_id(entry, "category", path), _member(entry, "name", path)
    if isinstance(name, bool) or not isinstance(name, (str, int, float)):
        raise ValueError(f"{path}: expected a string as the name of category {category_id}, got {str(name)[:60]}")
    if not has_visible_character(str(name)):
        raise ValueError(f"{path}: category {category_id} has an empty name ({str(name)[:60]!r}); give it one")
    parent, frequency = entry.get("supercategory"), entry.get("frequency")
    check_choice(f"{path}: category {category_id}: frequency", frequency, (*FREQUENCIES, None))
    return _Category(category_id, str(name), parent if isinstance(parent, str) else "", frequency)


def _root_id(categories: Sequence[_Category]) -> int | None:
    """Return the id of the category that is the supercategory of all others and has none itself, if there is one.

    Only the categories decide this, since the objects differ between the files of a dataset.
    """
    roots = [category for category in categories if category.parent.lower() in NO_PARENT]
    parents = {same_name_key(category.parent) for category in categories if category.parent.lower() not in NO_PARENT}
    return roots[0].id if len(roots) == 1 and parents == {same_name_key(roots[0].name)} else None


def _image(entry: dict[str, Any], path: Path) -> tuple[int, ImageEntry]:
    """Return the id of an image and its entry."""
    image_id = _entry_id(entry, "image", path)
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


def _size(entry: dict[str, Any], where: str) -> Size | None:
    """Return (height, width), None if the file does not state them (nothing, null or 0)."""
    stated = entry.get("height"), entry.get("width")
    try:
        height, width = (0 if side in (None, "") else whole_number(side, "a side") for side in stated)
    except ValueError:
        height = width = -1
    if height == 0 or width == 0:
        return None
    if not (0 < height < MAX_SIDE and 0 < width < MAX_SIDE):
        raise ValueError(
            f"{where}: expected a height and a width in pixels, got {str(stated)[:60]}; without the two members they "
            "are read from the image"
        )
    return height, width


def _ids(values: Any, member: str) -> tuple[int, ...]:
    if not isinstance(values, list):
        raise ValueError(f"{member}: expected a list of category ids, got {str(values)[:60]}")
    return tuple(whole_number(value, member) for value in values)


def _read_annotations(annotations: Iterable[dict[str, Any]], builder: ColumnsBuilder, path: Path) -> None:
    without_id: list[int] = []
    for index, entry in enumerate(annotations):
        try:
            left, top, width, height = numbers(entry["bbox"], "bbox", 4)
            annotation_id, area = entry.get("id"), entry.get("area")
            without_id += [index] if annotation_id is None else []
            builder.append(
                whole_number(entry["image_id"], "image_id"),
                whole_number(entry["category_id"], "category_id"),
                (left, top, left + width, top + height),
                flag(entry.get("iscrowd"), "iscrowd"),
                None if annotation_id is None else whole_number(annotation_id, "id"),
                entry.get("segmentation") if builder.with_masks else None,
                math.nan if area is None or area is False else number(area, "area"),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(
                f"{path}: annotation {index} (from 0) is not in COCO's format: {reason}; it needs image_id, "
                "category_id and bbox [left, top, width, height]"
            ) from error
    if 0 < len(without_id) < len(builder):
        raise ValueError(
            f"{path}: {len(without_id)} of {len(builder)} annotations have no id; the first is annotation "
            f"{without_id[0]} (from 0); give all of them one, or none"
        )


def _drop_impossible_areas(columns: Columns) -> list[str]:
    """Replace negative and infinite areas by NaN, "not stated"; return a note for the log."""
    impossible = (columns.areas < 0) | np.isinf(columns.areas)
    columns.areas[impossible] = math.nan
    count = int(impossible.sum())
    return [f"{count} areas that are negative or infinite are ignored, they are measured"] if count else []


def _member(entry: dict[str, Any], key: str, path: Path) -> Any:
    if not isinstance(entry, dict) or key not in entry:
        raise ValueError(f"{path}: an entry lacks {key!r}: {str(entry)[:80]}")
    return entry[key]


def _check_unique(values: Sequence[int], noun: str, path: Path) -> None:
    if len(set(values)) == len(values):
        return
    twice = [value for value, count in Counter(values).items() if count > 1]
    raise ValueError(
        f"{path}: {len(twice)} {noun}s are given more than once; the first is {twice[0]!r}; labels could not be told "
        "apart; give every entry its own"
    )


def _positions(columns: Columns, ids: np.ndarray, listed: Iterable[int], noun: str, path: Path) -> np.ndarray:
    """Return the (M,) position in `listed` of each of the (M,) `ids`."""
    known = np.fromiter(listed, np.int64)
    order = np.argsort(known)
    rank = np.searchsorted(known, ids, sorter=order).clip(max=max(len(known) - 1, 0))
    is_known = known[order[rank]] == ids if len(known) else np.zeros(len(ids), bool)
    if not is_known.all():
        first = int(np.flatnonzero(~is_known)[0])
        raise ValueError(
            f"{path}: {int((~is_known).sum())} annotations are of a {noun} that the file does not list; the first is "
            f"annotation {columns.ids[first]} with {noun}_id {ids[first]}. Remove them or add the {noun}"
        )
    return order[rank] if len(known) else ids
