"""Captions whose phrases have boxes, as files state them, and the usable boxes among them."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from openvocab.datasets.annotations.box_checks import REASONS, check_are_pixels, check_boxes
from openvocab.datasets.annotations.instances import InstanceTable
from openvocab.datasets.annotations.records import ColumnsBuilder, raise_bad
from openvocab.datasets.files.folder_walk import stored_names
from openvocab.files.file_values import numbers, whole_numbers
from openvocab.images.image_header import read_image_size
from openvocab.images.image_io import BadSample
from openvocab.structures import Size
from openvocab.vocabulary.prompt import CharacterRange, Prompt

_NOT_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # control characters, and halves of UTF-16 pairs


@dataclass(frozen=True)
class Region:
    """One entry of a grounding file: some characters of the caption, and boxes."""

    ranges: tuple[CharacterRange, ...]
    """Empty for boxes without a phrase."""
    boxes: Sequence[Sequence[float]]
    """x1 y1 x2 y2 in pixels; empty for a phrase without boxes."""
    types: tuple[str, ...] = ()
    """Kinds of the phrase, such as Flickr30k's "people"."""


@dataclass(frozen=True)
class GroundedItem:
    """One caption of an image, or the objects of an image if the file labels classes instead."""

    sample_id: str
    path: str
    """Of the image file."""
    size: Size
    prompt: Prompt | None
    """None for labeled classes."""
    phrase_types: tuple[tuple[str, ...], ...] = ()
    """The kinds of each phrase; empty if the file states none."""


class GroundingBuilder:
    """Collects captions with their phrases and boxes, and counts what cannot be used.

    Args:
        whole_captions: let each caption be one phrase, with all of its boxes.
        on_bad: called with the error of an image whose size is not stated and cannot be read; its caption is dropped.
    """

    def __init__(self, whole_captions: bool = False, on_bad: Callable[[BadSample], None] = raise_bad) -> None:
        self.items: list[GroundedItem] = []
        self.without_phrases = 0
        """Captions that are dropped since nothing in them is marked."""
        self.without_a_phrase = 0
        """Boxes that are dropped since they belong to no phrase."""
        self._columns = ColumnsBuilder(with_masks=False)
        self._whole_captions, self._on_bad = whole_captions, on_bad
        self._sizes: dict[str, Size | None] = {}

    def add_caption(
        self, sample_id: str, path: Path, size: Size | None, text: str, regions: Iterable[Region], where: str
    ) -> None:
        """Add a caption; regions of the same characters are one phrase.

        Args:
            sample_id: unique in its file.
            path: path of the image.
            size: (height, width); None reads it from the image.
            text: text of the caption, to whose characters the regions refer.
            regions: regions in any order; phrases are numbered as they come.
            where: file and line or id, for errors.

        Raises:
            ValueError: characters that are not in the text, or an image that occurs with two sizes.
        """
        regions = [Region(((0, len(text)),), one.boxes) for one in regions] if self._whole_captions else list(regions)
        types: dict[tuple[CharacterRange, ...], tuple[str, ...]] = {}
        for region in regions:
            if region.ranges:
                types[region.ranges] = tuple(dict.fromkeys((*types.get(region.ranges, ()), *region.types)))
        if not types:
            self.without_phrases += 1
            self.without_a_phrase += sum(len(region.boxes) for region in regions)
            return
        try:
            prompt = Prompt.of_caption(_NOT_TEXT.sub(" ", text), list(types))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None
        kinds = tuple(types.values()) if any(types.values()) else ()
        if self._add_item(sample_id, path, size, prompt, kinds):
            phrases = list(types)
            for region in regions:
                if region.ranges:
                    self._add_boxes(region.boxes, phrases.index(region.ranges))
                else:
                    self.without_a_phrase += len(region.boxes)

    def add_classes(
        self, sample_id: str, path: Path, size: Size | None, objects: Iterable[tuple[int, Sequence[float]]]
    ) -> None:
        """Add an image with labeled objects, pairs of class and box; see `add_caption`."""
        if self._add_item(sample_id, path, size, None, ()):
            for index, box in objects:
                self._add_boxes([box], index)

    def build(
        self, keep_empty: bool, source: str, phrase_type: str | None = None
    ) -> tuple[list[GroundedItem], InstanceTable, str, bool]:
        """Return the items, their usable boxes, one line for the log, and whether something is probably wrong.

        Args:
            keep_empty: keep items without a usable box.
            source: where the captions come from, for errors.
            phrase_type: keep only captions with a phrase of this type.

        Raises:
            ValueError: boxes in fractions of the image, or no phrase of that type.
        """
        columns = self._columns.build()
        check_are_pixels(columns.boxes, source)
        sizes = np.array([item.size for item in self.items], np.int64).reshape(-1, 2)
        boxes, unusable = check_boxes(columns.boxes, sizes[columns.image])
        usable = ~np.any(list(unusable.values()), axis=0)
        rows = np.flatnonzero(usable)  # in the order of their items already
        counts = np.bincount(columns.image[rows], minlength=len(self.items))
        is_kept = self._has_type(phrase_type, source)
        kept = np.flatnonzero(is_kept if keep_empty else is_kept & (counts > 0))
        rows = rows[np.isin(columns.image[rows], kept)]
        table = InstanceTable(
            first=np.searchsorted(columns.image[rows], [*kept, len(self.items)]),
            boxes=boxes[rows],
            classes=columns.category[rows],
            is_crowd=columns.is_crowd[rows],
            ids=columns.ids[rows],
        )
        items = [self.items[index] for index in kept]
        dropped = {f"boxes {REASONS[reason]}": int(flags.sum()) for reason, flags in unusable.items()}
        dropped["captions without a box"] = 0 if keep_empty else int((is_kept & (counts == 0)).sum())
        summary = self._summary(items, len(rows), dropped)
        return items, table, summary, any(flags.any() for flags in unusable.values()) or self.without_a_phrase > 0

    def _add_item(
        self,
        sample_id: str,
        path: Path,
        size: Size | None,
        prompt: Prompt | None,
        phrase_types: tuple[tuple[str, ...], ...],
    ) -> bool:
        """Add an item without its boxes; False if the size of its image cannot be read."""
        path = Path(*stored_names(Path(), [str(path)]))
        size = size or self._read_size(path)
        if size is not None:
            self.items.append(GroundedItem(sample_id, str(path), size, prompt, phrase_types))
        return size is not None

    def _read_size(self, path: Path) -> Size | None:
        """Return the size of an image file, which is read once; None if that fails."""
        if str(path) not in self._sizes:
            try:
                self._sizes[str(path)] = read_image_size(path)
            except BadSample as error:
                self._sizes[str(path)] = None
                self._on_bad(error)
        return self._sizes[str(path)]

    def _add_boxes(self, boxes: Iterable[Sequence[float]], phrase: int) -> None:
        for box in boxes:
            self._columns.append(len(self.items) - 1, phrase, box)

    def _has_type(self, phrase_type: str | None, source: str) -> np.ndarray:
        """Return (I,) bool: the items with a phrase of a type; all for None."""
        if phrase_type is None:
            return np.ones(len(self.items), bool)
        types = [{kind for kinds in item.phrase_types for kind in kinds} for item in self.items]
        flags = np.array([phrase_type in found for found in types], bool)
        if not flags.any():
            known = sorted(set().union(*types))
            raise ValueError(
                f"phrase_type: no phrase of {source} has the type {phrase_type!r}; expected one of {known}"
            )
        return flags

    def _summary(self, kept: Sequence[GroundedItem], boxes: int, dropped: dict[str, int]) -> str:
        """Return one line for the log: the counts, and what was dropped."""
        phrases = sum(len(item.prompt) for item in kept if item.prompt is not None)
        images = len({item.path for item in kept})
        parts = [f"{len(kept)} captions of {images} images, {phrases} phrases, {boxes} boxes"]
        dropped = {
            "boxes without a phrase": self.without_a_phrase,
            "captions without a phrase": self.without_phrases,
            **dropped,
        }
        return "; ".join([*parts, *(f"{count} {what} dropped" for what, count in dropped.items() if count)])


def read_ranges(value: object, where: str) -> tuple[CharacterRange, ...]:
    """Return the character ranges of a `tokens_positive` entry, [[begin, end], ...], ascending; empty for none or null.

    Raises:
        ValueError: another form.
    """
    if value is None:
        return ()
    if not isinstance(value, list):
        raise ValueError(f"{where}: tokens_positive: expected [[begin, end], ...], got {repr(value)[:60]}")
    ranges = []
    for entry in value:
        try:
            begin, end = whole_numbers(entry, "tokens_positive")
        except ValueError:
            raise ValueError(
                f"{where}: tokens_positive: expected [[begin, end], ...] in characters, got {repr(value)[:60]}"
            ) from None
        ranges.append((begin, end))
    return tuple(sorted(set(ranges)))


def read_boxes(value: object, where: str) -> list[list[float]]:
    """Return the boxes x1 y1 x2 y2 of a `bbox` entry, which is one box or a list of them.

    Raises:
        ValueError: another form.
    """
    several = value if isinstance(value, list) and all(isinstance(box, list) for box in value) else [value]
    try:
        return [list(numbers(box, "bbox", 4)) for box in several]
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def read_size(record: dict, where: str) -> Size | None:
    """Return (height, width) of a record; None if it states neither.

    Raises:
        ValueError: they are not whole numbers above 0.
    """
    stated = [record.get("height"), record.get("width")]
    if stated in ([None, None], [0, 0]):
        return None
    try:
        height, width = whole_numbers(stated, "size")
    except ValueError:
        height = width = 0
    if not (0 < height < 2**31 and 0 < width < 2**31):
        raise ValueError(f"{where}: expected a height and a width in pixels, got {repr(stated)[:60]}")
    return height, width
