"""Where the results of photos go: one file, or files in a folder, in one or several formats."""

import errno
import os
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from openvocab.drawing.picture_files import write_picture
from openvocab.files.printable_text import printable
from openvocab.predicting.photo_loop import PhotoFailed
from openvocab.predicting.sources import Photo, Source, Video
from openvocab.results.base import Result
from openvocab.results.coco import joined_documents
from openvocab.results.formats import FORMATS, content_of, csv_bytes, is_picture, json_bytes, rows_of, write_bytes

JOINED = {"coco": "coco.json", "csv": "results.csv"}
"""Formats that have one file for all photos, and its name in the folder."""


class OutputFiles:
    """The files of all results of a command.

    A folder holds a file per photo, at the photo's place below the folder that was named, with the extension of its
    format in place of its own; photos that differ in their extension alone keep it. `JOINED` formats have one file.
    With several formats, each has a folder of its own.

    Args:
        sources: all photos and videos.
        formats: names among `FORMATS`.
        folder: the folder, which is created.
        file: the file instead, for a single photo in a single format.

    Raises:
        ValueError: the extension of the file is not that of its format, two photos have the same name, or a photo would
            be overwritten.
    """

    def __init__(
        self, sources: Sequence[Source], formats: Sequence[str], folder: Path, file: Path | None = None
    ) -> None:
        self.formats, self.folder, self.file = tuple(formats), folder, file
        if file is not None:
            _check_extension(file, self.formats[0])
        _check_folder(folder if file is None else file.parent, FORMATS[self.formats[0]].extension)
        self._stems = Counter(_stem(source.name) for source in sources)
        self._joined: dict[str, list[Any]] = {name: [] for name in self.formats if name in JOINED}
        self._num_written = 0
        self._check_names(sources)

    def path(self, name: PurePath, format: str) -> Path:
        """Return the file of the result of a photo of this name, or that of all photos if the format joins them."""
        if self.file is not None:
            return self.file
        folder = self.folder / format if len(self.formats) > 1 else self.folder
        if format in JOINED:
            return folder / JOINED[format]
        stem = _stem(name)
        return folder / name.parent / f"{(name if self._stems[stem] > 1 else stem).name}{FORMATS[format].extension}"

    def write(self, photo: Photo, result: Result, heat: str = "") -> list[Path]:
        """Write the result of a photo, and return its own files; those of all photos are written by `finish`.

        Args:
            photo: the photo.
            result: its result.
            heat: draw the scores of this name as the picture.

        Raises:
            PhotoFailed: the name of a file is too long.
            OSError: a file cannot be written.
            NoSuchForm: results of this task have no such format.
        """
        paths = {self.path(photo.name, format): format for format in self.formats if format not in JOINED}
        # everything first: a format that the result does not have leaves no file in another one behind
        contents = {path: content_of(result, path, format, heat) for path, format in paths.items()}
        parts = {format: _joined_part(photo, result, format) for format in self._joined}
        for path, content in contents.items():
            write_safely(path, partial(write_bytes, content, path))
        for format, part in parts.items():  # last, so that a photo that fails is in no file
            self._joined[format] += part
        self._num_written += 1
        return list(contents)

    def write_picture(self, photo: Photo, picture: np.ndarray) -> Path:
        """Write a picture (H, W, 3) uint8 RGB as that of a photo, and return its file.

        Raises:
            PhotoFailed: the name of the file is too long.
            OSError: the file cannot be written.
        """
        path = self.path(photo.name, "overlay")
        write_safely(path, partial(write_picture, picture, path))
        return path

    def finish(self) -> list[Path]:
        """Write the files of joined formats, unless all photos have failed, and return them."""
        written = []
        for format, parts in self._joined.items() if self._num_written else ():
            path = self.path(PurePath("x"), format)
            is_table = format == "csv"
            write_bytes(csv_bytes(parts, ["image", "name"]) if is_table else json_bytes(joined_documents(parts)), path)
            written.append(path)
        return written

    def _check_names(self, sources: Sequence[Source]) -> None:
        photos = [source for source in sources if isinstance(source, Photo)]
        for name, count in Counter(source.name for source in sources).items():
            if count > 1:
                raise ValueError(f"{count} photos are called {str(name)!r}; predict them with separate commands")
        for path, count in Counter(self._own_paths(sources)).items():
            if count > 1:
                raise ValueError(f"the results of {count} photos would be {path}; predict them with separate commands")
        originals = {os.path.realpath(path) for path in _files(sources)}
        for photo in photos:
            for format in self.formats:
                if os.path.realpath(path := self.path(photo.name, format)) in originals:
                    raise ValueError(f"{path} is one of the photos and would be overwritten; choose another --out")

    def _own_paths(self, sources: Sequence[Source]) -> list[Path]:
        """Return the file of each photo and the folder of each video, in the first format that has some."""
        own = [format for format in self.formats if format not in JOINED]
        if not own:
            return []
        return [
            self.folder / _stem(source.name) if isinstance(source, Video) else self.path(source.name, own[0])
            for source in sources
        ]


def _joined_part(photo: Photo, result: Result, format: str) -> list[dict[str, Any]]:
    """Return what a photo adds to a file of all photos: its document, or its rows."""
    if format == "coco":
        return [result.to_coco()]
    return [{"image": photo.display_name, **row} for row in rows_of(result)]


def write_safely(path: Path, write: Callable[[], object]) -> None:
    """Write the file of one photo.

    Raises:
        PhotoFailed: its name is too long, which costs this photo alone.
        OSError: it cannot be written.
    """
    try:
        write()
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG or not os.path.isdir(path.parent):
            raise
        raise PhotoFailed(f"{error.strerror}: {printable(path.name)}") from error


def _stem(name: PurePath) -> PurePath:
    return name.parent / name.stem


def _files(sources: Sequence[Source]) -> list[Path]:
    paths = [source.path if isinstance(source, Video) else source.source for source in sources]
    return [path for path in paths if isinstance(path, Path)]


def _check_folder(folder: Path, extension: str) -> None:
    """Check that no file is in the place of a folder."""
    existing = next((path for path in (folder, *folder.parents) if os.path.lexists(path)), folder)
    if os.path.lexists(existing) and not os.path.isdir(existing):
        raise ValueError(
            f"--out: {existing} is a file; expected a folder, or for one photo in one format a file that ends in "
            f"{extension}"
        )


def _check_extension(file: Path, format: str) -> None:
    """Check that a file has the extension of its format, any one of a picture for an overlay."""
    extension, expected = file.suffix.lower(), FORMATS[format].extension
    if format == "overlay":
        if not is_picture(extension):
            given = extension or "no extension"
            raise ValueError(f"--out: {given!r} is not the extension of a picture format; use .png or .jpg")
    elif extension != expected:
        raise ValueError(f"--out: expected {expected} for --format {format}, got {extension or 'no extension'!r}")
