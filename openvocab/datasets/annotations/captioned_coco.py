"""Read COCO JSON with a caption per image and its characters per annotation: MDETR's form of GoldG and RefCOCO."""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from openvocab.argument_checks import check_choice
from openvocab.datasets.annotations.grounded_captions import GroundingBuilder, Region, read_ranges, read_size
from openvocab.datasets.annotations.json_stream import read_members
from openvocab.files.file_values import numbers
from openvocab.structures import Size
from openvocab.vocabulary.prompt import CharacterRange

Ranges = tuple[CharacterRange, ...]
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
    entries: dict[str, _Entry] | None = None
    table: _Annotations | None = None
    for key, value in read_members(path, streamed=("images", "annotations")):
        if key in ("images", "annotations") and not isinstance(value, Iterator | list):
            raise ValueError(f"{path}: expected a list under {key!r}, got {type(value).__name__}")
        if key == "images":
            entries = _entries(value, path)
        elif key == "annotations":
            table = _annotations(value, path)
    if entries is None or table is None:
        raise ValueError(f"{path}: expected a JSON object with the lists 'images' and 'annotations'")
    if (unknown := next((image_id for image_id in table.rows if image_id not in entries), None)) is not None:
        raise ValueError(f"{path}: an annotation is of image {unknown}, which the file does not list")
    for image_id, entry in entries.items():
        where = f"{path}: image {image_id}"
        file = _folder(images, entry.source, where) / entry.name
        regions = [*(Region(ranges, []) for ranges in entry.phrases), *table.regions(image_id)]
        builder.add_caption(image_id, file, entry.size, entry.caption, regions, where)


class _Entry(NamedTuple):
    """What is kept of an image entry."""

    name: str
    caption: str
    size: Size | None
    source: Any
    """Its `data_source`, as it is in the file."""
    phrases: tuple[Ranges, ...]
    """Those that the entry lists itself, with or without boxes."""


class _Annotations:
    """The annotations of a file, by image; millions of them fit into little memory."""

    def __init__(self) -> None:
        self.rows: dict[str, array[int]] = {}
        """Of each image id the numbers of its annotations."""
        self._boxes = array("d")
        self._ranges: list[Ranges] = []
        self._equal: dict[Ranges, Ranges] = {}

    def append(self, image_id: str, box: Sequence[float], ranges: Ranges) -> None:
        """Add an annotation with box x1 y1 x2 y2."""
        self.rows.setdefault(image_id, array("q")).append(len(self._ranges))
        self._boxes.extend(box)
        self._ranges.append(self._equal.setdefault(ranges, ranges))

    def regions(self, image_id: str) -> Iterator[Region]:
        """Yield the regions of an image."""
        for row in self.rows.get(image_id, ()):
            yield Region(self._ranges[row], [self._boxes[4 * row : 4 * row + 4]])


def _entries(values: Iterable[Any], path: Path) -> dict[str, _Entry]:
    """Return the image entries by id, as text: some files have numbers, some have texts."""
    entries: dict[str, _Entry] = {}
    for index, entry in enumerate(values):
        if not isinstance(entry, dict) or type(entry.get("id")) not in (int, str):
            raise ValueError(f"{path}: image {index} (from 0) has no id")
        image_id = str(entry["id"])
        where = f"{path}: image {image_id}"
        for member in ("file_name", "caption"):
            if not isinstance(entry.get(member), str) or not entry[member]:
                raise ValueError(f"{where} has no text under {member!r}")
        if image_id in entries:
            raise ValueError(f"{path}: the image id {image_id} is given twice")
        phrases, size = _listed_phrases(entry, where), read_size(entry, where)
        entries[image_id] = _Entry(entry["file_name"], entry["caption"], size, entry.get("data_source"), phrases)
    return entries


def _listed_phrases(entry: dict[str, Any], where: str) -> tuple[Ranges, ...]:
    """Return the phrases that an image entry lists itself."""
    phrases = entry.get("tokens_positive_eval") or []
    if not isinstance(phrases, list):
        raise ValueError(f"{where}: tokens_positive_eval: expected a list of phrases, got {str(phrases)[:60]}")
    return tuple(read_ranges(phrase, where) for phrase in phrases)


def _annotations(values: Iterable[Any], path: Path) -> _Annotations:
    """Read the annotations."""
    table = _Annotations()
    for index, entry in enumerate(values):
        if not isinstance(entry, dict) or "image_id" not in entry:
            raise ValueError(f"{path}: annotation {index} (from 0) has no image_id")
        where = f"{path}: image {str(entry['image_id'])[:60]}: annotation {entry.get('id', f'{index} (from 0)')}"
        try:
            left, top, width, height = numbers(entry.get("bbox"), "bbox", 4)
        except ValueError as error:
            raise ValueError(f"{where}: {error}; it needs [left, top, width, height]") from None
        ranges = read_ranges(entry.get("tokens_positive"), where)
        try:
            table.append(str(entry["image_id"]), (left, top, left + width, top + height), ranges)
        except OverflowError:
            raise ValueError(f"{where}: bbox: a number beyond the range of floats") from None
    return table


def _folder(images: Folders, source: Any, where: str) -> Path:
    """Return the folder of an image of a source."""
    if isinstance(images, Path):
        return images
    check_choice(f"{where}: data_source", source, images)
    return images[source]
