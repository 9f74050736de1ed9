"""What the tools share: a user's mistake is one line and an exit code."""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn, TextIO

from openvocab.checkpoint.checkpoint import SaveFailed
from openvocab.engine.loader import LoaderFailed
from openvocab.engine.stopping import Stopped, StopRequest
from openvocab.finite_guard import NonFiniteError

_MISTAKES = (OSError, ValueError, TypeError, KeyError, ImportError)
_FAILURES = (NonFiniteError, SaveFailed, LoaderFailed, MemoryError)
_HANG_UP = getattr(signal, "SIGHUP", None)  # not on Windows


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


@contextmanager
def children_save_first() -> Iterator[None]:
    """Let a stop of this tool be one of the tools that it starts and waits for; to be used within `one_line_errors`.

    SIGHUP raises `Stopped` as SIGTERM does, so that no child outlives this process, unless it is ignored (`nohup`).
    Whoever waits for a child asks it to end then, and waits on in `second_stop`. Each child leads a session of its own:
    what a terminal or `timeout` sends to a whole group would reach it twice, and the second signal end it unsaved.
    The one line of the stop says that the same command continues.
    """
    before = signal.getsignal(_HANG_UP) if _HANG_UP else None
    if before not in (None, signal.SIG_IGN):
        signal.signal(_HANG_UP, _stop_by_hang_up)
    try:
        yield
    except Stopped as stop:
        say(f"{stop}; the same command goes on from here\n")
        stop.is_logged = True
        raise
    finally:
        if before is not None:
            signal.signal(_HANG_UP, before)


@contextmanager
def second_stop(kill: Callable[[], None]) -> Iterator[None]:
    """Wait in this block, after a first signal, for children that save; a second one ends them by `kill`.

    Raises:
        Stopped: by the second signal.
    """
    _ignore_hang_ups()
    try:
        with StopRequest(is_second=True).listening():
            yield
    except Stopped:
        kill()
        raise


def kill_session(process: subprocess.Popen) -> None:
    """End a child that leads a session of its own at once, and all that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _ignore_hang_ups() -> None:
    """Ignore SIGHUP: one that follows a stop is no second stop, since a shell and the kernel send one each."""
    if _HANG_UP:
        signal.signal(_HANG_UP, signal.SIG_IGN)


def _stop_by_hang_up(number: int, frame: FrameType | None) -> NoReturn:
    _ignore_hang_ups()
    raise Stopped(number)


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
    handler = _StderrHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    source = logging.getLogger("openvocab")
    source.handlers = [handler]
    source.setLevel(logging.INFO)


class _StderrHandler(logging.StreamHandler):
    """Writes to what stderr is at the time: who runs a tool in its own process may put another one in its place."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        return sys.stderr


def _one_line(error: BaseException) -> str:
    # str() of a KeyError is the repr of its message
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    if text.startswith("Caught ") and " in DataLoader worker " in text:  # then the original traceback, as text
        text = text.strip().splitlines()[-1].partition(": ")[2]
    return " ".join(text.split()) or type(error).__name__
