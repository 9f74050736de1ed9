"""What the command-line tools share: a user's mistake is reported in one line, with an exit code."""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn, TextIO

from openvocab.engine.stopping import Stopped, StopRequest
from openvocab.failures import RunFailed
from openvocab.missing_file import MissingFile

_MISTAKES = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    ImportError,
    Warning,
)  # a warning is raised under python -W error
_FAILURES = (RunFailed, MemoryError)
_HANG_UP: signal.Signals | None = getattr(signal, "SIGHUP", None)  # not on Windows


@contextmanager
def one_line_errors(config_option: str | None = None) -> Iterator[None]:
    """Report an expected error in one line on stderr: exit code 2 for a user's mistake, 1 for a run that failed.

    A file that is missing comes with the argument that names another one, as `config_option` takes it, or without if
    the tool has no option for arguments of the config.

    SIGTERM and SIGINT also end the tool with one line, with exit codes 143 and 130; a training run saves first.
    With OPENVOCAB_TRACEBACK=1 the error is raised with its traceback.
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
        say(f"error: {_one_line(error, config_option)} (OPENVOCAB_TRACEBACK=1 shows where)\n")
        sys.exit(1 if isinstance(error, _FAILURES) else 2)


@contextmanager
def children_save_first() -> Iterator[None]:
    """Let the tools that this tool starts save before it stops; use it within `one_line_errors`.

    SIGHUP raises `Stopped` as SIGTERM does, so that no child outlives this process, unless SIGHUP is ignored (`nohup`).
    The code that waits for a child then asks it to end, and keeps waiting in `second_stop`. Each child leads its own
    session: a signal that a terminal or `timeout` sends to the whole group would reach it twice, and the second one
    would end it before it has saved. The line about the stop says that the same command continues.
    """
    previous = None if _HANG_UP is None else signal.getsignal(_HANG_UP)
    if _HANG_UP is not None and previous not in (None, signal.SIG_IGN):
        signal.signal(_HANG_UP, _stop_by_hang_up)
    try:
        yield
    except Stopped as stop:
        say(f"{stop}; the same command continues from here\n")
        stop.is_logged = True
        raise
    finally:
        if _HANG_UP is not None and previous is not None:
            signal.signal(_HANG_UP, previous)


@contextmanager
def second_stop(kill: Callable[[], None]) -> Iterator[None]:
    """Wait in this block, after a first signal, for children that are saving; a second signal calls `kill`.

    Raises:
        Stopped: a second signal came.
    """
    _ignore_hang_ups()
    try:
        with StopRequest(is_second=True).listening():
            yield
    except Stopped:
        kill()
        raise


def kill_session(process: subprocess.Popen) -> None:
    """Kill a child that leads its own session, and everything that it started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _ignore_hang_ups() -> None:
    """Ignore SIGHUP: one that follows a stop is not a second stop, since the shell and the kernel send one each."""
    if _HANG_UP is not None:
        signal.signal(_HANG_UP, signal.SIG_IGN)


def _stop_by_hang_up(number: int, frame: FrameType | None) -> NoReturn:
    _ignore_hang_ups()
    raise Stopped(number)


def say(text: str) -> OSError | None:
    """Write to stderr; if that fails, discard all later output instead of ending the work.

    Returns:
        The error, the first time: a pipe whose reader is gone, a terminal that hung up, a full disk.
    """
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError as error:
        with open(os.devnull, "w") as null:
            os.dup2(null.fileno(), sys.stderr.fileno())
        return error
    return None


def show_log() -> None:
    """Write openvocab's log to stderr, for a tool without a run log."""
    handler = _StderrHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    source = logging.getLogger("openvocab")
    source.handlers = [handler]
    source.setLevel(logging.INFO)


class _StderrHandler(logging.StreamHandler):
    """Write to the current `sys.stderr`, which a program that runs a tool in its own process may have replaced."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:
        return sys.stderr


def _one_line(error: BaseException, config_option: str | None) -> str:
    # str() of a KeyError is the repr of its message
    text = str(error.args[0] if isinstance(error, KeyError) and error.args else error)
    if isinstance(error, MissingFile):
        text = error.reason if config_option is None else error.for_command(config_option)
    if text.startswith("Caught ") and " in DataLoader worker " in text:  # followed by the original traceback, as text
        text = text.strip().splitlines()[-1].partition(": ")[2]
    return " ".join(text.split()) or type(error).__name__
