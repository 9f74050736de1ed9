"""What SIGTERM and SIGINT do to a training: it saves where nothing is lost, and ends."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import torch
from mmengine.dist import all_reduce, is_distributed

SIGNALS = (signal.SIGTERM, signal.SIGINT)
COPIES_WITHIN = 2.0
"""Seconds in which a further signal is a copy of the first: schedulers signal whole groups, parents their children."""


class Stopped(SystemExit):
    """A signal ended the work; the exit code is 128 and its number: 143 after SIGTERM, 130 after SIGINT.

    Args:
        number: of the signal.
        is_logged: whether the user has been told.
    """

    def __init__(self, number: int, is_logged: bool = False) -> None:
        super().__init__(128 + number)
        self.number = number
        self.is_logged = is_logged

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.number).name}"


_LISTENING: list["StopRequest"] = []
"""Whose handlers this process has now, the latest one last."""


class StopRequest:
    """Take the first SIGTERM or SIGINT as a request; a second one ends the process at once, with the same exit code.

    What comes within `COPIES_WITHIN` seconds of the first is the first, delivered twice. Outside of `held`, the request
    is followed at once by raising `Stopped`. Within, it is noted for the holder to ask after where the work can be
    stopped.

    Args:
        is_second: a first signal has just been taken elsewhere, so that copies of it may follow.
    """

    def __init__(self, is_second: bool = False) -> None:
        self._deaf_until = time.monotonic() + COPIES_WITHIN if is_second else 0.0
        self.number = 0
        """Of the signal that came; 0 while none has."""
        self._is_held = False
        self._heard: tuple[signal.Signals, ...] = ()
        self._second: _SecondSignal | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take signals until the block ends, and give them back to who had them; only the main thread can.

        A signal that is ignored stays so: Ctrl-C is not meant for what a script started with `&`.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self.number = 0
        before = {number: signal.getsignal(number) for number in SIGNALS}
        self._heard = tuple(number for number, handler in before.items() if handler is not signal.SIG_IGN)
        for number in self._heard:
            signal.signal(number, self._note)
        _LISTENING.append(self)
        try:
            yield
        finally:
            if self in _LISTENING:  # not in a forked child
                _LISTENING.remove(self)
            for number in self._heard:
                signal.signal(number, before[number] or signal.SIG_DFL)
            if self._second is not None:
                self._second.close()
                self._second = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Do not raise in this block."""
        before, self._is_held = self._is_held, True
        try:
            yield
        finally:
            self._is_held = before

    @contextmanager
    def released(self, is_possible: bool) -> Iterator[None]:
        """Raise at once in this block, which may be left anywhere, within one of `held`.

        Args:
            is_possible: whether it may be left. Ranks of a group never leave alone.
        """
        if not is_possible or is_distributed() or not self._is_held:
            yield
            return
        self._is_held = False
        try:
            if self.number:
                raise Stopped(self.number)
            yield
        finally:
            self._is_held = True

    def is_agreed(self) -> bool:
        """Return whether any rank was asked to stop; all must call this at the same place."""
        if is_distributed():
            number = torch.tensor(self.number)
            all_reduce(number, op="max")
            self.number = int(number)
        return self.number > 0

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._second is not None or time.monotonic() < self._deaf_until:
            return  # `_SecondSignal` hears this one, or it is a copy
        self._second = _SecondSignal(self._note)
        self.number = number
        if not self._is_held:
            raise Stopped(number)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let a signal that comes in this block end the work after it: for what would be useless, or harmful, by half.

    Within `StopRequest.held`, its holder decides, as ever.

    Raises:
        Stopped: after the block.
    """
    stop = _LISTENING[-1] if _LISTENING else None
    if stop is None or stop._is_held:
        yield
        return
    with stop.held():
        yield
    if stop.number:
        raise Stopped(stop.number)


class _SecondSignal:
    """Ends the process at the next signal, also while the main thread is in a call that no Python handler interrupts.

    Python's own C handler writes the number of each signal to a socket, which a thread reads.

    Args:
        handler: of the first signal; where another one has taken its place, that one decides.
    """

    _latest = 0.0
    """When this process last took a signal, whichever request it was for."""

    def __init__(self, handler: Callable[[int, FrameType | None], None]) -> None:
        self._handler = handler
        _SecondSignal._latest = time.monotonic()
        self._read, self._write = socket.socketpair()
        self._write.setblocking(False)
        self._before = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        """Listen no more."""
        signal.set_wakeup_fd(self._before)
        self._write.close()

    def _listen(self) -> None:
        with self._read:
            while number := self._read.recv(1):
                is_ours = number[0] in SIGNALS and signal.getsignal(number[0]) == self._handler
                # asked last: a request that took the signal may have given the handler back already
                if is_ours and time.monotonic() - _SecondSignal._latest > COPIES_WITHIN:
                    os._exit(128 + number[0])


def _free_child() -> None:
    """Let SIGTERM end a forked child, whose parent decides when, and let the child ignore SIGINT.

    SIGTERM is left to the kernel: a handler of Python's runs between two bytecodes, so that a signal which comes just
    before the child waits for a lock is lost, and a parent that has sent it to end the child waits for ever.
    """
    for stop in _LISTENING:
        for number in stop._heard:
            if signal.getsignal(number) == stop._note:  # else it is somebody else's
                signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else _do_nothing)
        if stop._second is not None:
            signal.set_wakeup_fd(-1)  # it is the parent's, which would take the child's signals for its own
    _LISTENING.clear()


def _do_nothing(number: int, frame: FrameType | None) -> None:
    """Ignore a signal here, but not in a program that takes this process's place, as SIG_IGN would."""


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_free_child)
