"""Tools as processes of their own, whose output is shown and kept, and which end with the one that started them."""

import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from openvocab.command_line import kill_session, say


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
        output = _Log(log)
        last = ""
        try:
            for line in process.stdout:
                last = line.strip() or last
                output.write(line)
                failure = say(f"{prefix}{line}")  # stdout is for the table
                if failure:
                    output.write(f"stderr cannot be written ({failure}): the run goes on without it\n")
            code = process.wait()
        finally:
            self._leave(process)
        if code:
            raise ToolFailed(f"{' '.join(command[1:3])} ended with exit code {code}: {last} (all of it: {log})")

    def stop(self) -> None:
        """Ask every running process to end (SIGTERM) and let no other start."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.terminate()

    def kill(self) -> None:
        """End every running process at once, and its own children with it."""
        with self._lock:
            for process in self._running:
                kill_session(process)

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
                start_new_session=True,  # a Ctrl-C reaches it only by `stop`
            )
            self._running.add(process)
            return process

    def _leave(self, process: subprocess.Popen) -> None:
        """Take a process off the list; one that still runs, since an error came between, is ended first.

        Its output is read on meanwhile: a full pipe would hold it up.
        """
        if process.poll() is None:
            process.terminate()
        with process.stdout:
            for _ in process.stdout:
                pass
        process.wait()
        with self._lock:
            self._running.discard(process)


class _Log:
    """A file that lines are added to; one that cannot be written costs a warning, and each line tries anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._has_failed = False

    def write(self, line: str) -> None:
        try:
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            if not self._has_failed:
                say(f"cannot write {self._path} ({error}): the run goes on without it\n")
            self._has_failed = True
