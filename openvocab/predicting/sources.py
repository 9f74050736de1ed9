"""Find the photos that a user names: files, folders, patterns, addresses, lists, videos, and stdin."""

import glob
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import unquote, urlsplit

import cv2

from openvocab.datasets.files.folder_walk import IMAGE_EXTENSIONS, list_images
from openvocab.files.printable_text import printable
from openvocab.files.text_files import read_text
from openvocab.images.addresses import is_address
from openvocab.images.image_io import BadSample

VIDEO_EXTENSIONS = frozenset((".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm", ".wmv"))
"""Extensions of files that are read as videos."""
MAX_FRAMES = 2**31
"""A file that states more frames is damaged."""
STDIN = "-"
"""Stands for the bytes of one image from stdin."""


@dataclass(frozen=True)
class Photo:
    """One image to predict."""

    source: Any
    """What a predictor takes; a `BadSample` if it is known already that there is none."""
    name: PurePath
    """Where its results go, below the folder of all results; with the extension of the photo."""
    display_name: str
    """Its name in messages: a path, an address."""


@dataclass(frozen=True)
class Video:
    """A video, whose frames are photos."""

    path: Path
    name: PurePath
    every: int
    """One frame of so many is a photo."""

    def frames(self) -> Iterator[Photo]:
        """Yield the frames; a video that cannot be read is one photo that cannot be read."""
        capture = cv2.VideoCapture(str(self.path))
        number = 0
        try:
            while capture.grab():
                if number % self.every == 0:
                    is_read, frame = capture.retrieve()
                    source = frame[..., ::-1] if is_read else BadSample(self.path, f"frame {number} cannot be decoded")
                    yield Photo(source, self.name.with_suffix("") / f"{number:06d}.png", f"{self.path}, frame {number}")
                number += 1
        finally:
            capture.release()
        if number == 0:
            yield Photo(BadSample(self.path, "cannot be read as a video"), self.name, str(self.path))

    def count(self) -> int | None:
        """Return about how many frames are photos, None if the file does not tell."""
        capture = cv2.VideoCapture(str(self.path))
        stated = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        capture.release()
        return -(-stated // self.every) if 0 < stated < MAX_FRAMES else None


Source = Photo | Video


def find_sources(words: Sequence[str], out: str | None, every: int = 1) -> list[Source]:
    """Return the photos and videos that words name, in the order of the words and of the alphabet.

    Args:
        words: paths of images and videos; folders, which are searched recursively for images; patterns ("photos/*.jpg",
            "**" for folders of any depth); addresses (http, https); .txt files with one of these per line, relative to
            the folder of the file; "-" for an image from stdin.
        out: folder of the results of an earlier command: what is in it are no photos.
        every: take one frame of so many from a video.

    Raises:
        FileNotFoundError: a path does not exist, a pattern matches nothing, or a folder has no photos.
        OSError: a folder cannot be read, or a name is too long.
        ValueError: a list names another list, or `every` is below 1.
    """
    if every < 1:
        raise ValueError(f"--every: expected at least 1, got {every}")
    return [source for word in words for source in _found(word, out, every)]


def photos_of(sources: Sequence[Source]) -> Iterator[Photo]:
    """Yield all photos, those of videos frame by frame."""
    for source in sources:
        if isinstance(source, Video):
            yield from source.frames()
        else:
            yield source


def count_photos(sources: Sequence[Source]) -> int | None:
    """Return how many photos there are, None if a video does not tell."""
    counts = [source.count() if isinstance(source, Video) else 1 for source in sources]
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _found(word: str, out: str | None, every: int) -> Iterator[Source]:
    """Yield what one word names."""
    if word == STDIN:
        yield Photo(sys.stdin.buffer.read(), PurePath("stdin.png"), "stdin")
    elif is_address(word):
        yield Photo(word, PurePath(_name_of(word)), word)
    elif os.path.isdir(word):
        yield from _in_folder(Path(word), out)
    elif not exists(Path(word)):
        yield from _matching(word, out, every)
    elif Path(word).suffix.lower() == ".txt":
        yield from _listed(Path(word), out, every)
    else:  # a broken link is a photo that cannot be read
        yield _file(Path(word), PurePath(Path(word).name), every)


def _file(path: Path, name: PurePath, every: int) -> Source:
    if path.suffix.lower() in VIDEO_EXTENSIONS:
        return Video(path, name, every)
    return Photo(path, name, str(path))


def _in_folder(folder: Path, out: str | None) -> Iterator[Source]:
    photos = _without_results(list_images(folder), folder, out)
    if not photos:
        raise FileNotFoundError(f"no photos in {folder}; they end in {', '.join(sorted(IMAGE_EXTENSIONS))}")
    for photo in photos:
        yield Photo(photo, photo.relative_to(folder), str(photo))


def _matching(pattern: str, out: str | None, every: int) -> Iterator[Source]:
    """Yield the files that a pattern matches, without hidden ones and results of an earlier command."""
    if not glob.has_magic(pattern):
        hint = "; only http and https are fetched" if ":/" in pattern else ""
        raise FileNotFoundError(f"{pattern}: no such file or folder{hint}")
    paths = [Path(path) for path in sorted(glob.glob(pattern, recursive=True)) if not os.path.isdir(path)]
    known = [path for path in paths if path.suffix.lower() in IMAGE_EXTENSIONS | VIDEO_EXTENSIONS]
    if not known:
        raise FileNotFoundError(f"{pattern}: the pattern matches no photo or video")
    # names start where the pattern does, so that equal names in two folders stay apart
    start = Path(*_before_magic(pattern))
    for path in _without_results(known, start, out):
        yield _file(path, path.relative_to(start), every)


def _before_magic(pattern: str) -> list[str]:
    """Return the folders of a pattern before the first one that is not a plain name."""
    parts = Path(pattern).parts
    return list(parts[: next(index for index, part in enumerate(parts) if glob.has_magic(part))])


def _listed(path: Path, out: str | None, every: int) -> Iterator[Source]:
    lines = [line.strip() for line in read_text(path).splitlines()]
    if not any(line and not line.startswith("#") for line in lines):
        raise FileNotFoundError(f"{path}: the list names no photos")
    for number, line in enumerate(lines, start=1):
        if not line or line.startswith("#"):
            continue
        if line == STDIN or line.lower().endswith(".txt"):
            raise ValueError(f"{path}:{number}: a list names photos, folders, patterns and addresses, not {line!r}")
        try:
            for source in _found(line if is_address(line) else str(path.parent / line), out, every):
                yield _named_below(path.parent, source)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{path}:{number}: {error}") from error


def _named_below(folder: Path, source: Source) -> Source:
    """Return a photo or video whose results go to its place below a folder, if it lies there."""
    file = source.path if isinstance(source, Video) else source.source
    if not isinstance(file, Path) or not file.is_relative_to(folder):
        return source
    name = file.relative_to(folder)
    return source if ".." in name.parts else replace(source, name=name)


def _without_results(photos: list[Path], folder: Path, out: str | None) -> list[Path]:
    """Drop the pictures of an earlier command from the photos in `folder`, and print how many there are."""
    if out is None or Path(os.path.realpath(out)) == Path(os.path.realpath(folder)):
        return photos
    results = Path(os.path.realpath(out))
    parents = {photo.parent for photo in photos}
    result_folders = {parent for parent in parents if Path(os.path.realpath(parent)).is_relative_to(results)}
    if count := sum(photo.parent in result_folders for photo in photos):
        sys.stderr.write(f"{count} pictures of an earlier command in {printable(str(results))} are ignored\n")
    return [photo for photo in photos if photo.parent not in result_folders]


def _name_of(address: str) -> str:
    """Return the name of the file at an address."""
    name = unquote(PurePath(urlsplit(address).path).name).replace("/", "_").replace("\0", "_")
    return name if name not in ("", ".", "..") else "image"


def exists(path: Path) -> bool:
    """Return whether there is a file or a link at a path, even a broken link.

    Raises:
        OSError: the path cannot be looked up, or is too long.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
