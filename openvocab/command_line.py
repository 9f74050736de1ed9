"""What the tools share: a user's mistake is one line and an exit code, and long work shows the time that is left."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from mmengine.utils import ProgressBar

from openvocab.checkpoint import SaveFailed
from openvocab.engine.finite_guard import NonFiniteError
from openvocab.engine.loader import LoaderFailed
from openvocab.engine.stopping import Stopped, StopRequest

_MISTAKES = (OSError, ValueError, TypeError, KeyError, ImportError)
_FAILURES = (NonFiniteError, SaveFailed, LoaderFailed, MemoryError)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn an expected error into one line on stderr: exit code 2 for a user's mistake, 1 for a run that failed.

    SIGTERM and SIGINT end the tool in one line too, with exit code 143 and 130; a training saves first.
    With OPENVOCAB_TRACEBACK=1 the error passes through with its traceback.
    """
    try:
        with StopRequest().listening():
            yield
    except Stopped as stop:
        if not stop.is_logged:
            say(f"{stop}\n")
        raise
    except (*_MISTAKES, *_FAILURES) as error:
        if os.environ.get("OPENVOCAB_TRACEBACK") == "1":
            raise
        say(f"error: {_one_line(error)} (OPENVOCAB_TRACEBACK=1 shows where)\n")
        sys.exit(1 if isinstance(error, _FAILURES) else 2)


def say(text: str) -> OSError | None:
    """Write to stderr; where it cannot be written, all that follows goes nowhere instead of ending the work.

    Returns:
        What went wrong, once: a pipe whose reader is gone, a terminal that hung up, a full disk.
    """
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError as error:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stderr.fileno())
        return error
    return None


def show_log() -> None:
    """Write what openvocab logs to stderr, for a tool that opens no log of a run."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    source = logging.getLogger("openvocab")
    source.handlers = [handler]
    source.setLevel(logging.INFO)


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


def _one_line(error: BaseException) -> str:
    # str() of a KeyError is the repr of its message
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    if text.startswith("Caught ") and " in DataLoader worker " in text:  # then the original traceback, as text
        text = text.strip().splitlines()[-1].partition(": ")[2]
    return " ".join(text.split()) or type(error).__name__
