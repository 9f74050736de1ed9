"""Unpack a dataset that Hugging Face's `datasets` saved into files that the datasets of this package read.

It is done once, into the user's cache: images and label maps as the files that they were, boxes as a COCO file.
"""

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from openvocab.datasets.files.folder_walk import is_image
from openvocab.files.atomic_files import put_in_place, temporary_sibling
from openvocab.files.printable_text import printable
from openvocab.files.user_cache import cache_folder
from openvocab.images.stated_size import JPEG_START
from openvocab.own_data.parts import Part, Task
from openvocab.own_data.saved_tables import count_rows, read_features, read_rows
from openvocab.own_data.table_boxes import BoxEvidence, TableImage, write_boxes
from openvocab.own_data.table_columns import TableColumns, choose_columns
from openvocab.progress import Progress

logger = logging.getLogger(__name__)
LAYOUT = 1
"""Of the unpacked files; another number lets them be unpacked anew."""


@dataclass(frozen=True)
class TableOptions:
    """What a user states about a saved dataset."""

    columns: Mapping[str, str] = field(default_factory=dict)
    """See `choose_columns`."""
    names: Mapping[int, str] | None = None
    """Of the categories, by their numbers, if the dataset does not name them."""
    box_format: str | None = None
    """One of `BOX_FORMATS`; None: xywh, unless the boxes contradict it."""


@dataclass(frozen=True)
class UnpackedTables:
    """A saved dataset as files."""

    kind: str
    """A key of `TASKS_OF`."""
    parts: dict[str, Part]


def unpack_tables(
    folder: Path, tables: Mapping[str, Sequence[Path]], task: Task | None, options: TableOptions
) -> UnpackedTables:
    """Return a saved dataset as files in the cache, which are written unless they are there.

    Args:
        folder: the dataset.
        tables: files of each part, from `find_tables`.
        task: what it is to be used for; None: whatever it can.
        options: what the user states.

    Raises:
        ImportError: pyarrow is not installed.
        ValueError: columns that cannot be told apart, a damaged file, a row without an image, or objects that are
            none; the message names the row.
    """
    columns = _common_columns(folder, tables, task, options)
    target = cache_folder() / "tables" / f"{folder.resolve().name[:40]}-{_digest(tables, columns, options)}"
    if not target.is_dir():
        _unpack(folder, tables, columns, options, target)
    labels = "labels" if columns.kind == "label maps" else "labels.json"
    parts = {part: Part(target / part / "images", target / part / labels) for part in tables}
    return UnpackedTables(columns.kind, parts)


def _common_columns(
    folder: Path, tables: Mapping[str, Sequence[Path]], task: Task | None, options: TableOptions
) -> TableColumns:
    """Return the columns, which must be the same in all files."""
    found: dict[TableColumns, Path] = {}
    for path in (path for paths in tables.values() for path in paths):
        found.setdefault(choose_columns(read_features(path), task, options.columns, str(folder)), path)
    if not found:
        raise ValueError(f"data: {folder} lists no files with rows")
    if len(found) > 1:
        first, second = list(found.values())[:2]
        raise ValueError(f"data: {first} and {second} have different columns, or different names of classes")
    return next(iter(found))


def _digest(tables: Mapping[str, Sequence[Path]], columns: TableColumns, options: TableOptions) -> str:
    """Return a digest of all that the unpacked files depend on: of a file, its path, size and time of change."""
    facts: list[Any] = [LAYOUT, repr(columns), options.box_format, sorted((options.names or {}).items())]
    for part, paths in tables.items():
        facts += [[part, str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in paths]
    return sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _unpack(
    folder: Path, tables: Mapping[str, Sequence[Path]], columns: TableColumns, options: TableOptions, target: Path
) -> None:
    """Write all parts into a folder that is complete under its name."""
    total = sum(count_rows(path) for paths in tables.values() for path in paths)
    logger.info("%s: %d rows are unpacked into %s, once", folder, total, target)
    progress = _Counting(total)
    evidence = BoxEvidence()
    target.parent.mkdir(parents=True, exist_ok=True)
    with temporary_sibling(target, Path.mkdir) as temporary:
        for part, paths in tables.items():
            (temporary / part / "images").mkdir(parents=True)
            images = progress.counted(_write_images(paths, columns, temporary / part / "images", f"{folder}, {part}"))
            if columns.kind == "label maps":
                _write_label_maps(images, temporary / part / "labels")
            else:
                labels = temporary / part / "labels.json"
                write_boxes(images, labels, columns, options.names, options.box_format, evidence)
        if options.box_format is None:
            evidence.check(str(folder))
        os.sync()  # one flush for all files, before they get the name that states that they are complete
        try:
            put_in_place(temporary, target)
        except OSError:
            if not target.is_dir():  # else another process was faster
                raise


class _Counting:
    """A progress bar over the rows of all parts."""

    def __init__(self, total: int) -> None:
        self._total, self._done, self._show = total, 0, Progress()

    def counted(self, images: Iterator[TableImage]) -> Iterator[TableImage]:
        """Yield the same images."""
        for image in images:
            yield image
            self._done += 1
            self._show(self._done, self._total)


def _write_images(paths: Sequence[Path], columns: TableColumns, folder: Path, part: str) -> Iterator[TableImage]:
    """Write the images of a part, whose names are the numbers of their rows, and yield them with their labels."""
    rows = (row for path in paths for row in read_rows(path, [columns.image, columns.labels]))
    for number, row in enumerate(rows):
        where = f"data: {part}: row {number}"
        content, extension = _content(row[columns.image], f"{where}: {columns.image}")
        if content is None:
            raise ValueError(f"{where} has no image in {columns.image}")
        path = folder / f"{number:08d}{extension}"
        path.write_bytes(content)
        yield TableImage(path, number, row[columns.labels], where)


def _content(value: Any, where: str) -> tuple[bytes | None, str]:
    """Return the bytes of an image file and an extension for it; the reader of images goes by the content.

    Raises:
        ValueError: the dataset only names a file.
    """
    if value is None:
        return None, ""
    content, path = value.get("bytes"), str(value.get("path") or "")
    if content is None:
        if path:
            raise ValueError(
                f"{where} is not in the dataset, which only names {printable(path[:80])}; save it with its images"
            )
        return None, ""
    known = Path(path).suffix.lower() if is_image(Path(path)) else ""
    return content, known or (".jpg" if content.startswith(JPEG_START) else ".png")


def _write_label_maps(images: Iterator[TableImage], folder: Path) -> None:
    """Write label maps as they are in the dataset; an image without one stays unlabeled."""
    folder.mkdir()
    for image in images:
        content, extension = _content(image.labels, f"{image.where}: its label map")
        if content is not None:
            (folder / f"{image.path.stem}{extension}").write_bytes(content)
