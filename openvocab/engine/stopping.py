"""Handle SIGTERM and SIGINT in a training run: it saves at a point where nothing is lost, and ends."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)
COPIES_WITHIN = 2.0
"""Seconds within which another signal is a copy of the first: schedulers signal groups, parents their children."""


class Stopped(SystemExit):
    """A signal ended the work; the exit code is 128 plus its number: 143 after SIGTERM, 130 after SIGINT.

    Args:
        number: number of the signal.
        is_logged: whether the log says so already.
    """

    def __init__(self, number: int, is_logged: bool = False) -> None:
        super().__init__(128 + number)
        self.number = number
        self.is_logged = is_logged

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.number).name}"


_LISTENING: list["StopRequest"] = []
"""The requests whose handlers are installed in this process, the latest one last."""


class StopRequest:
    """Take the first SIGTERM or SIGINT as a request to stop; a second one ends the process with the same exit code.

    A signal within `COPIES_WITHIN` seconds of the first counts as the first, delivered twice. Outside of `held`, the
    request raises `Stopped` at once. Within `held`, it is only noted, and the holder asks for it at points where the
    work can stop.

    Args:
        is_second: whether a first signal has just been handled elsewhere, so that copies of it may follow.
    """

    def __init__(self, is_second: bool = False) -> None:
        self._ignore_until = time.monotonic() + COPIES_WITHIN if is_second else 0.0
        self.number = 0
        """Number of the signal that came; 0 if none has come."""
        self._is_held = False
        self._handled: tuple[signal.Signals, ...] = ()
        self._second: _SecondSignal | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle signals in this block, and restore the former handlers afterwards; only the main thread can.

        A signal that is ignored stays ignored: Ctrl-C is not meant for what a script has started with `&`.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self.number = 0
        previous_handlers = {number: signal.getsignal(number) for number in SIGNALS}
        self._handled = tuple(number for number, handler in previous_handlers.items() if handler is not signal.SIG_IGN)
        for number in self._handled:
            signal.signal(number, self._note)
        _LISTENING.append(self)
        try:
            yield
        finally:
            if self in _LISTENING:  # not in a forked child
                _LISTENING.remove(self)
            for number in self._handled:
                signal.signal(number, previous_handlers[number] or signal.SIG_DFL)
            if self._second is not None:
                self._second.close()
                self._second = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Do not raise `Stopped` in this block."""
        was_held, self._is_held = self._is_held, True
        try:
            yield
        finally:
            self._is_held = was_held

    @contextmanager
    def released(self, is_possible: bool) -> Iterator[None]:
        """Raise `Stopped` at once in this block, which may be left anywhere, within a block of `held`.

        Args:
            is_possible: whether the block may be left. A rank of a distributed run never leaves alone.
        """
        from mmengine.dist import is_distributed

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
        """Return whether any rank was asked to stop; all ranks must call this at the same point."""
        import torch  # here: commands without torch listen to signals, too
        from mmengine.dist import all_reduce, is_distributed

        if is_distributed():
            number = torch.tensor(self.number)
            all_reduce(number, op="max")
            self.number = int(number)
        return self.number > 0

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._second is not None or time.monotonic() < self._ignore_until:
            return  # `_SecondSignal` handles this one, or it is a copy
        self._second = _SecondSignal(self._note)
        self.number = number
        if not self._is_held:
            raise Stopped(number)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay a signal that comes in this block until its end: for work that is useless, or harmful, if only half done.

    Within `StopRequest.held`, its holder decides, as always.

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
    """End the process at the next signal, even while the main thread is in a call that no Python handler interrupts.

    Python's own C handler writes the number of each signal to a socket, which a thread reads.

    Args:
        handler: handles the first signal, unless another handler has replaced it.
    """

    _latest = 0.0
    """Time at which this process last handled a signal, for whichever request."""

    def __init__(self, handler: Callable[[int, FrameType | None], None]) -> None:
        self._handler = handler
        _SecondSignal._latest = time.monotonic()
        self._receiver, self._sender = socket.socketpair()
        self._sender.setblocking(False)
        self._previous_fd = signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        signal.set_wakeup_fd(self._previous_fd)
        self._sender.close()

    def _listen(self) -> None:
        with self._receiver:
            while number := self._receiver.recv(1):
                is_ours = number[0] in SIGNALS and signal.getsignal(number[0]) == self._handler
                # checked last: a request that handled the signal may have restored the former handler already
                if is_ours and time.monotonic() - _SecondSignal._latest > COPIES_WITHIN:
                    os._exit(128 + number[0])


def _reset_signals_in_child() -> None:
    """Let SIGTERM end a forked child, whose parent decides when it ends, and let the child ignore SIGINT.

    The kernel handles SIGTERM: a Python handler runs between two bytecodes, so that a signal which comes just before
    the child waits for a lock would be lost, and a parent that sent it to end the child would wait forever.
    """
    for stop in _LISTENING:
        for number in stop._handled:
            if signal.getsignal(number) == stop._note:  # otherwise the handler is not ours
                signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else _do_nothing)
        if stop._second is not None:
            signal.set_wakeup_fd(-1)  # it is the parent's socket: the parent would take the child's signals for its own
    _LISTENING.clear()


def _do_nothing(number: int, frame: FrameType | None) -> None:
    """Ignore a signal in this process, but not in a program that replaces it, as SIG_IGN would."""


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_reset_signals_in_child)
