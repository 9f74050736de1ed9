"""Signals to a group of processes: workers leave the decision to their parent."""

import os
import signal
import threading

POLL_SECONDS = 2.0
"""Seconds between two checks of a worker that its parent is alive."""


def ignore_group_signals() -> None:
    """Let the parent decide when this process ends; to be called first in a worker process.

    Ctrl-C and most schedulers signal the complete process group, but the parent needs its workers until it has saved.
    So SIGINT is ignored, and SIGTERM is obeyed only if the parent sends it. A worker whose parent was killed exits.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigtimedwait"):  # not on macOS, where SIGTERM ends a worker
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()


def _follow(parent: int) -> None:
    while os.getppid() == parent:
        received = signal.sigtimedwait({signal.SIGTERM}, POLL_SECONDS)
        if received is not None and received.si_pid == parent:
            break
    os._exit(0)
