"""Tools as processes of their own, whose output is shown and kept, and which end with the one that started them."""

import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path


class ToolFailed(RuntimeError):
    """A tool ended with an exit code that is not 0; the message holds the last line of its output."""


class Processes:
    """All processes that run now; several threads may start some."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen] = set()
        self._stopped = False

    @property
    def are_stopped(self) -> bool:
        """Whether no other may start."""
        return self._stopped

    def run(self, command: Sequence[str], environment: Mapping[str, str], log: Path, prefix: str) -> None:
        """Run a command to its end; each line of its output is appended to `log`, and to stderr behind `prefix`.

        Raises:
            ToolFailed: it ended with another exit code than 0, or `stop` was called.
        """
        process = self._start(command, environment)
        last = ""
        try:
            with open(log, "a", encoding="utf-8") as file:
                for line in process.stdout:
                    last = line.strip() or last
                    file.write(line)
                    file.flush()
                    sys.stderr.write(f"{prefix}{line}")  # stdout is for the table
                    sys.stderr.flush()
            code = process.wait()
        finally:
            self._forget(process)
        if code:
            raise ToolFailed(f"{' '.join(command[1:3])} ended with exit code {code}: {last} (all of it: {log})")

    def stop(self) -> None:
        """Ask every running process to end (SIGTERM) and let no other start."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.terminate()

    def _start(self, command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen:
        with self._lock:
            if self._stopped:
                raise ToolFailed("not started: another one has failed")
            process = subprocess.Popen(
                command,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,  # a Ctrl-C reaches it only by `stop`: a second signal would end it unsaved
            )
            self._running.add(process)
            return process

    def _forget(self, process: subprocess.Popen) -> None:
        """Wait for a process that was left early (an interrupt), so that it never outlives this one."""
        process.stdout.close()
        process.wait()
        with self._lock:
            self._running.discard(process)
