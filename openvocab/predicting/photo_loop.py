"""Go through photos: a broken one costs only itself, and each line tells how far it is."""

import sys
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from openvocab.files.printable_text import encodable, printable
from openvocab.images.image_io import BadSample
from openvocab.predicting.sources import Photo
from openvocab.results.base import NoSuchForm

Answer = TypeVar("Answer")


class PhotoFailed(Exception):
    """A photo cannot be predicted, or its result has no file; the others still can."""


def go_through(
    photos: Iterable[Photo],
    total: int | None,
    predict: Callable[[Photo], Answer],
    write: Callable[[Photo, Answer], tuple[str, list[Path]]],
    label: str,
    quiet: bool = False,
) -> tuple[int, list[Photo]]:
    """Predict photos, and print what each shows, where its files are, the rate and the remaining time.

    Args:
        photos: the photos.
        total: how many there are, None if that is unknown.
        predict: predicts a photo.
        write: writes the files of a photo; returns a description, and the files.
        label: what precedes the files in the second line of a photo.
        quiet: whether to write these lines to stderr, since stdout is for a program.

    Returns:
        How many photos there were, and those that failed; each of these is reported on stderr when it fails.

    Raises:
        NoSuchForm: results of this model have no such format, whatever the photo.
        OSError: no file can be written to a folder.
    """
    failed: list[Photo] = []
    done, start, stream = 0, time.monotonic(), sys.stderr if quiet else sys.stdout
    for done, photo in enumerate(photos, start=1):
        name = printable(photo.display_name)
        try:
            description, files = _write(photo, _predict(photo, predict), write)
        except PhotoFailed as error:
            failed.append(photo)
            sys.stderr.write(f"error: {name}: {error}\n")
            sys.stderr.flush()
            continue
        where = f"\n{label}: {', '.join(printable(str(path)) for path in files)}" if files else ""
        lines = f"{name}: {description}{where}{_progress(done, total, time.monotonic() - start)}"
        stream.write(encodable(f"{lines}\n", stream))
        stream.flush()
    return done, failed


def report_failed(failed: list[Photo], total: int) -> None:
    """List on stderr the photos that failed, if there were several in all."""
    if failed and total > 1:
        listed = "".join(f"\n  {printable(photo.display_name)}" for photo in failed)
        sys.stderr.write(f"{len(failed)} of {total} photos were skipped:{listed}\n")


def _predict(photo: Photo, predict: Callable[[Photo], Answer]) -> Answer:
    try:
        if isinstance(photo.source, BadSample):
            raise photo.source
        return predict(photo)
    except (OSError, ValueError, MemoryError) as error:
        raise _failure(photo, error) from error


def _write(
    photo: Photo, answer: Answer, write: Callable[[Photo, Answer], tuple[str, list[Path]]]
) -> tuple[str, list[Path]]:
    try:
        return write(photo, answer)
    except NoSuchForm:  # of every photo: a mistake of the command
        raise
    except (ValueError, MemoryError) as error:
        raise _failure(photo, error) from error


def _failure(photo: Photo, error: Exception) -> PhotoFailed:
    """Return a failure with the reason in one line, without the name of the photo, which precedes it."""
    reason = str(error).removeprefix(f"{photo.display_name}: ").removeprefix(f"{printable(photo.display_name)}: ")
    return PhotoFailed(printable(" ".join(reason.split())) or type(error).__name__)


def _progress(done: int, total: int | None, seconds: float) -> str:
    """Return " (3 of 10, 2.1 per second, 0:00:03 left)"; nothing for a single photo."""
    if total == 1:
        return ""
    rate = done / max(seconds, 1e-9)
    rounded = f"{rate:.2g}" if rate < 10 else f"{rate:.0f}"
    if total is None or done > total:  # a video may hold more frames than it states
        return f" ({done}, {rounded} per second)"
    return f" ({done} of {total}, {rounded} per second, {timedelta(seconds=round((total - done) / rate))} left)"
