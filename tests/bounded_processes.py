"""Processes that a test waits for, for so long and no longer, whatever they start themselves."""

import os
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress


@contextmanager
def started(command: Sequence[str], **options) -> Iterator[subprocess.Popen]:
    """Start a command as the leader of a group; where the block fails, the whole group is ended.

    `subprocess` ends the leader alone: a grandchild holds the pipes open, and the wait for their end is never over.
    """
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with subprocess.Popen(command, start_new_session=True, text=True, **pipes | options) as process:
        try:
            yield process
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise


def run_bounded(command: Sequence[str], timeout: float = 240, **options) -> subprocess.CompletedProcess:
    """Run a command to its end, and take its output."""
    with started(command, **options) as process:
        output, errors = process.communicate(timeout=timeout)
    return subprocess.CompletedProcess(command, process.returncode, output, errors)
