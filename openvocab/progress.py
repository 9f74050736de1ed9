"""A bar for long work."""

import sys

from mmengine.utils import ProgressBar


class Progress:
    """A bar with the time left on stderr, started by its first call."""

    def __init__(self) -> None:
        self._bar: ProgressBar | None = None

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` things are done."""
        if self._bar is None:
            self._bar = ProgressBar(total, file=sys.stderr)
        if done > self._bar.completed:
            self._bar.update(done - self._bar.completed)
            if done == total:
                sys.stderr.write("\n")
