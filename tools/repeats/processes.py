"""Run tools as child processes, whose output is shown and stored, and which end with their parent."""

import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from openvocab.command_line import kill_session, say


class ToolFailed(RuntimeError):
    """A tool ended with an exit code that is not 0; the message holds the last line of its output."""


class Processes:
    """The running child processes; several threads may start some."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen] = set()
        self._stopped = False

    @property
    def are_stopped(self) -> bool:
        """Whether no further process may start."""
        return self._stopped

    def run(self, command: Sequence[str], environment: Mapping[str, str], log: Path, prefix: str) -> None:
        """Run a command to its end; append each line of its output to `log`, and write it to stderr after `prefix`.

        Raises:
            ToolFailed: its exit code is not 0, or `stop` was called.
        """
        process = self._start(command, environment)
        output = _Log(log)
        last = ""
        try:
            for line in _output(process):
                last = line.strip() or last
                output.write(line)
                failure = say(f"{prefix}{line}")  # stdout is for the table
                if failure:
                    output.write(f"stderr cannot be written ({failure}): the run continues without it\n")
            code = process.wait()
        finally:
            self._leave(process)
        if code:
            raise ToolFailed(f"{' '.join(command[1:3])} ended with exit code {code}: {last} (whole output: {log})")

    def stop(self) -> None:
        """Ask every running process to end (SIGTERM), and let no further one start."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.terminate()

    def kill(self) -> None:
        """Kill every running process, with its children."""
        with self._lock:
            for process in self._running:
                kill_session(process)

    def _start(self, command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen:
        with self._lock:
            if self._stopped:
                raise ToolFailed("not started: another tool has failed")
            process = subprocess.Popen(
                command,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,  # Ctrl-C reaches it only through `stop`
            )
            self._running.add(process)
            return process

    def _leave(self, process: subprocess.Popen) -> None:
        """Remove a process from the list; if an error left it running, end it first.

        Its output is still read meanwhile: a full pipe would block it.
        """
        if process.poll() is None:
            process.terminate()
        with _output(process) as output:
            for _ in output:
                pass
        process.wait()
        with self._lock:
            self._running.discard(process)


def _output(process: "subprocess.Popen[str]") -> IO[str]:
    """Return the pipe that the output of a process comes from."""
    if process.stdout is None:
        raise ValueError("expected a process that was started with a pipe for its output")
    return process.stdout


class _Log:
    """A file that lines are appended to; if it cannot be written, warn once, and try again with each line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._has_failed = False

    def write(self, line: str) -> None:
        try:
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(line)
        except OSError as error:
            if not self._has_failed:
                say(f"cannot write {self._path} ({error}): the run continues without it\n")
            self._has_failed = True
