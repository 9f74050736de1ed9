"""Read COCO JSON with a caption per image and its characters per annotation: MDETR's form of GoldG and RefCOCO."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from openvocab.argument_checks import check_choice
from openvocab.datasets.annotations.grounded_captions import GroundingBuilder, Region, read_ranges, read_size
from openvocab.datasets.annotations.json_stream import read_members
from openvocab.files.file_values import numbers

Folders = Path | Mapping[str, Path]
"""Folder of the images, or one for each `data_source` of the file."""


def read_captioned_coco(path: Path, images: Folders, builder: GroundingBuilder) -> None:
    """Read the captions of a file into a builder.

    An entry of `images` has `id`, `file_name` and `caption`; several entries may be of one file. An annotation has
    `image_id`, `bbox` [left, top, width, height] and `tokens_positive`, the characters of the caption that it belongs
    to. Phrases that an image lists as `tokens_positive_eval` come first, in its order, with or without boxes.

    Args:
        path: the JSON file.
        images: folder that file names are relative to, or one for each `data_source`.
        builder: takes the captions; their ids are those of the image entries.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file of another form, an id given twice, an annotation of an unknown image, or spans outside of a
            caption; the message states the id.
    """
    if not path.is_file():
        raise FileNotFoundError(f"annotations: no file {path}; prepare the dataset or point annotations to it")
    entries: dict[str, dict[str, Any]] | None = None
    regions: dict[str, list[Region]] | None = None
    for key, value in read_members(path, streamed=("annotations",)):
        if key in ("images", "annotations") and not isinstance(value, Iterator | list):
            raise ValueError(f"{path}: expected a list under {key!r}, got {type(value).__name__}")
        if key == "images":
            entries = _entries(value, path)
        elif key == "annotations":
            regions = _regions(value, path)
    if entries is None or regions is None:
        raise ValueError(f"{path}: expected a JSON object with the lists 'images' and 'annotations'")
    if unknown := next((image_id for image_id in regions if image_id not in entries), None):
        raise ValueError(f"{path}: an annotation is of image {unknown}, which the file does not list")
    for image_id, entry in entries.items():
        where = f"{path}: image {image_id}"
        listed = [Region(read_ranges(one, where), []) for one in _listed_phrases(entry, where)]
        file = _folder(images, entry, where) / entry["file_name"]
        builder.add_caption(
            image_id, file, read_size(entry, where), entry["caption"], [*listed, *regions.get(image_id, ())], where
        )


def _entries(values: Any, path: Path) -> dict[str, dict[str, Any]]:
    """Return the image entries by id, as text: some files have numbers, some have texts."""
    entries: dict[str, dict[str, Any]] = {}
    for index, entry in enumerate(values):
        if not isinstance(entry, dict) or type(entry.get("id")) not in (int, str):
            raise ValueError(f"{path}: image {index} (from 0) has no id")
        image_id = str(entry["id"])
        for member in ("file_name", "caption"):
            if not isinstance(entry.get(member), str) or not entry[member]:
                raise ValueError(f"{path}: image {image_id} has no text under {member!r}")
        if image_id in entries:
            raise ValueError(f"{path}: the image id {image_id} is given twice")
        entries[image_id] = entry
    return entries


def _listed_phrases(entry: dict[str, Any], where: str) -> list[Any]:
    """Return the phrases that an image entry lists itself, with or without boxes."""
    phrases = entry.get("tokens_positive_eval")
    if phrases is not None and not isinstance(phrases, list):
        raise ValueError(f"{where}: tokens_positive_eval: expected a list of phrases, got {str(phrases)[:60]}")
    return phrases or []


def _regions(values: Any, path: Path) -> dict[str, list[Region]]:
    """Return the regions of each image, by its id."""
    regions: dict[str, list[Region]] = {}
    for index, entry in enumerate(values):
        if not isinstance(entry, dict) or "image_id" not in entry:
            raise ValueError(f"{path}: annotation {index} (from 0) has no image_id")
        where = f"{path}: image {entry['image_id']}: annotation {entry.get('id', f'{index} (from 0)')}"
        try:
            left, top, width, height = numbers(entry.get("bbox"), "bbox", 4)
        except ValueError as error:
            raise ValueError(f"{where}: {error}; it needs [left, top, width, height]") from None
        box = (left, top, left + width, top + height)
        ranges = read_ranges(entry.get("tokens_positive"), where)
        regions.setdefault(str(entry["image_id"]), []).append(Region(ranges, [box]))
    return regions


def _folder(images: Folders, entry: dict[str, Any], where: str) -> Path:
    """Return the folder of an image."""
    if isinstance(images, Path):
        return images
    check_choice(f"{where}: data_source", entry.get("data_source"), images)
    return images[entry["data_source"]]
