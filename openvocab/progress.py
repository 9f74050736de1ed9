"""A progress bar."""

import sys
import time

from mmengine.utils import ProgressBar

EVERY = 0.1
"""Seconds between two updates of a bar on a terminal."""
EVERY_IN_FILES = 10.0
"""The same if stderr is a file or a pipe, which keeps every update."""


class Progress:
    """A bar on stderr with the remaining time; the first call starts it."""

    def __init__(self) -> None:
        self._bar: ProgressBar | None = None
        self._due = 0.0

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` items are done."""
        if self._bar is None:
            self._bar = ProgressBar(total, file=sys.stderr)
            self._due = time.monotonic() + _interval()  # a rate after no time at all would be meaningless
        if done > self._bar.completed and (done == total or time.monotonic() >= self._due):
            self._bar.update(done - self._bar.completed)
            self._due = time.monotonic() + _interval()
            if done == total:
                sys.stderr.write("\n")


def _interval() -> float:
    return EVERY if sys.stderr.isatty() else EVERY_IN_FILES
