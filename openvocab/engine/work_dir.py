"""One work dir, one run: a new one never touches the files of another."""

import itertools
import json
import os
import re
import secrets
import shutil
import socket
import time
import weakref
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from openvocab.checkpoint.checkpoint import checkpoints_of
from openvocab.files.atomic_files import lock_file

LOCK = ".training.json"
"""Names who trains in the folder; locked by that process while it does."""
_PROCESS = secrets.token_hex(8)  # containers share hosts, but not process ids
_LOG_FOLDER = re.compile(r"\d{8}_\d{6}(-\d+)?")


class WorkDirInUse(ValueError):
    """A work dir belongs to another run."""


def take_work_dir(
    folder: Path,
    *,
    resume: bool,
    checkpoint: Path | None,
    overwrite: bool,
    is_main: bool,
    config: Path | None = None,
) -> tuple["WorkDirLock | None", Path | None]:
    """Make sure that a training may write its checkpoints to `folder`, and keep others out of it.

    Args:
        resume: the run continues the one that is there.
        checkpoint: what it starts from or continues, where that was named.
        overwrite: move the files of an earlier run aside.
        is_main: of the ranks of a run, the one that saves: it alone locks and moves.
        config: its file. Where it lies in `folder`, the Python files there are the user's own and are not moved.

    Returns:
        The lock of the main rank, and where an earlier run's files are now if they were moved.

    Raises:
        ValueError: both `resume` and `overwrite`.
        WorkDirInUse: it holds another run, or another process trains there.
    """
    if resume and overwrite:
        raise ValueError("resume and overwrite: expected one of them, a run is either continued or moved aside")
    if not is_main:
        if not overwrite:
            _claim(folder, resume, checkpoint, overwrite, config)
        return None, None
    lock = WorkDirLock(folder)
    lock.acquire()
    return lock, _claim(folder, resume, checkpoint, overwrite, config)


def _claim(folder: Path, resume: bool, checkpoint: Path | None, overwrite: bool, config: Path | None) -> Path | None:
    found = checkpoints_of(folder)
    if not found or (resume and _is_newest(checkpoint, found)):
        return None
    if not overwrite:
        ways = "" if resume else "--resume continues it, "
        raise WorkDirInUse(
            f"{folder} holds a run already ({', '.join(path.name for path in found[:4])}): {ways}"
            "--work-dir names another folder, --overwrite moves the run aside and starts there"
        )
    if checkpoint is not None and checkpoint.resolve() in [path.resolve() for path in found]:
        raise WorkDirInUse(f"{checkpoint} is one of the files to move aside; name another --work-dir")
    return _move_aside(folder, with_configs=config is None or config.resolve().parent != folder.resolve())


def check_nothing_is_lost(folder: Path) -> None:
    """Refuse to start from the beginning where checkpoints lie, damaged as they may be.

    Raises:
        WorkDirInUse: naming them.
    """
    found = checkpoints_of(folder)
    if found:
        raise WorkDirInUse(
            f"{folder} holds checkpoints ({', '.join(path.name for path in found[:4])}), but none of them can be "
            "resumed from; --overwrite in place of --resume moves them aside and starts from the beginning"
        )


def make_log_folder(folder: Path, timestamp: str) -> str:
    """Make `folder/timestamp`, with a number behind it if another run has made that, and return its name."""
    folder.mkdir(parents=True, exist_ok=True)
    return _make_unused(folder, timestamp)


class WorkDirLock:
    """Keep other processes from training in `folder`; released by `release`, or by the end of the process.

    The lock belongs to this process alone: loader workers that outlive it for a moment do not hold it. Where the file
    system has no locks, a process of this host that says it trains here, and lives, is believed; `doubt` says what
    cannot be known then.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.doubt = ""
        """What the user should know where nothing can be locked; empty where it can."""
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock, unless this process holds it.

        Raises:
            WorkDirInUse: another process trains here; the message names it.
        """
        if self._descriptor is not None:
            return
        descriptor = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        is_ours = lock_file(descriptor)
        holder = _read_holder(descriptor)
        if is_ours is False or (is_ours is None and _is_alive(holder)):
            os.close(descriptor)
            if (holder.get("pid"), holder.get("process")) == (os.getpid(), _PROCESS):
                return  # an earlier runner of this process, not yet forgotten
            raise WorkDirInUse(
                f"another training runs in {self.folder}: {_named(holder)}; "
                "wait for its end, or name another --work-dir"
            )
        if is_ours is None:
            before = f" (the last one that did not say it ended: {_named(holder)})" if holder else ""
            self.doubt = f"{self.folder} is on a file system without locks: let nobody else train there{before}"
        self._descriptor = descriptor
        os.register_at_fork(after_in_child=partial(_close_in_child, weakref.ref(self)))
        _write_holder(descriptor)

    def release(self) -> None:
        """Let others train here."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            self._close()

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __del__(self) -> None:
        self.release()


def _is_newest(checkpoint: Path | None, found: list[Path]) -> bool:
    """Return whether resuming from `checkpoint` leaves no later file that belongs to another course of the run."""
    return checkpoint is None or any(path.exists() and path.samefile(checkpoint) for path in found[:1])


def _move_aside(folder: Path, with_configs: bool) -> Path:
    """Move what trainings write by themselves into a folder of its own: checkpoints, configs and logs."""
    target = folder / _make_unused(folder, f"earlier-{time.strftime('%Y%m%d-%H%M%S')}")
    logs = [path for path in folder.iterdir() if path.is_dir() and _LOG_FOLDER.fullmatch(path.name)]
    configs = folder.glob("*.py") if with_configs else ()
    for path in [*checkpoints_of(folder), *configs, *logs]:
        shutil.move(path, target / path.name)
    return target


def _make_unused(folder: Path, name: str) -> str:
    for number in itertools.count(1):
        unused = name if number == 1 else f"{name}-{number}"
        try:
            (folder / unused).mkdir()
        except FileExistsError:
            continue
        return unused


def _read_holder(descriptor: int) -> dict[str, str | int]:
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
    except ValueError:  # it is just being written
        return {}
    return holder if isinstance(holder, dict) else {}


def _write_holder(descriptor: int) -> None:
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    holder["process"] = _PROCESS  # a forked child has it too, under another number
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(holder).encode(), 0)


def _named(holder: Mapping[str, str | int]) -> str:
    return (
        f"process {holder.get('pid', 'unknown')} on {holder.get('host', 'an unknown host')} "
        f"since {holder.get('since', 'an unknown time')}"
    )


def _is_alive(holder: Mapping[str, str | int]) -> bool:
    """Say whether a holder is a process of this host that runs; of other hosts, and on Windows, nobody knows."""
    if holder.get("host") != socket.gethostname() or not isinstance(holder.get("pid"), int) or os.name == "nt":
        return False
    if holder["pid"] == os.getpid():  # containers count processes anew
        return holder.get("process") == _PROCESS
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it runs, and is another user's
    return True


def _close_in_child(reference: "weakref.ref[WorkDirLock]") -> None:
    lock = reference()
    if lock is not None:
        lock._close()
