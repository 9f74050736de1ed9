"""Signals that reach a whole group of processes, of which one decides."""

import os
import signal
import threading

LOOKS_EVERY = 2.0
"""Seconds between two looks of a worker for its parent."""


def ignore_group_signals() -> None:
    """Leave it to this process's parent when it ends; to be called first in a worker process.

    Ctrl-C and most schedulers signal a whole group, but the parent needs its workers until it has saved. So SIGINT is
    ignored, and SIGTERM is followed when the parent sends it. A worker whose parent was killed ends itself.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigtimedwait"):  # not on macOS, where SIGTERM ends a worker
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        received = signal.sigtimedwait({signal.SIGTERM}, LOOKS_EVERY)
        if received is not None and received.si_pid == parent:
            break
    os._exit(0)
