"""One run per work dir: a new run never touches the files of another."""

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
"""File that names the process which trains in the folder; locked by that process meanwhile."""
RESULTS = "results.csv"
REPORT_FILES = (
    RESULTS, "per_class.csv", "report.html", "curves.png", "confusion_matrix.png", "precision_recall.png",
    "val_predictions.png", "train_batch_*.png",
)  # fmt: skip
"""Patterns of the files in which a run reports itself (`ReportHook`)."""
_PROCESS = secrets.token_hex(8)  # containers share hosts, but not process ids
_LOG_FOLDER = re.compile(r"\d{8}_\d{6}(-\d+)?")


class WorkDirInUse(ValueError):
    """The work dir belongs to another run."""


def take_work_dir(
    folder: Path,
    *,
    resume: bool,
    checkpoint: Path | None,
    overwrite: bool,
    is_main: bool,
    config: Path | None = None,
) -> tuple["WorkDirLock | None", Path | None]:
    """Check that a training run may write its checkpoints to `folder`, and keep other runs out of it.

    Args:
        folder: the work dir.
        resume: whether the run continues the one in the folder.
        checkpoint: file that the run starts from or continues, if the user named one.
        overwrite: move the files of an earlier run aside.
        is_main: whether this is the rank that saves; only that rank locks the folder and moves files.
        config: file of the config. If it lies in `folder`, the Python files there are the user's and are not moved.

    Returns:
        The lock of the main rank, and the folder that an earlier run's files were moved to, if any. What a run reported
        that ended before its first checkpoint is moved, too, even without `overwrite`.

    Raises:
        ValueError: both `resume` and `overwrite` are set.
        WorkDirInUse: the folder holds another run, or another process trains there.
    """
    if resume and overwrite:
        raise ValueError("resume and overwrite: expected only one of them: a run is either continued or moved aside")
    if not is_main:
        if not overwrite:
            _holds_run(folder, resume, checkpoint, overwrite)
        return None, None
    lock = WorkDirLock(folder)
    lock.acquire()
    # a run that ended before its first checkpoint leaves nothing to resume, but perhaps results
    is_unsaved = not checkpoints_of(folder) and (folder / RESULTS).exists()
    if not _holds_run(folder, resume, checkpoint, overwrite) and not is_unsaved:
        return lock, None
    keeps_configs = config is not None and config.resolve().parent == folder.resolve()
    return lock, _move_aside(folder, with_configs=not keeps_configs)


def _holds_run(folder: Path, resume: bool, checkpoint: Path | None, overwrite: bool) -> bool:
    """Return whether the folder holds an earlier run that is to be moved aside; raise if it is not free."""
    saved = checkpoints_of(folder)
    if not saved or (resume and _is_newest(checkpoint, saved)):
        return False
    if not overwrite:
        ways = "" if resume else "--resume continues it, "
        raise WorkDirInUse(
            f"{folder} holds a run already ({', '.join(path.name for path in saved[:4])}): {ways}"
            "--work-dir names another folder, --overwrite moves the run aside and starts there"
        )
    if checkpoint is not None and checkpoint.resolve() in [path.resolve() for path in saved]:
        raise WorkDirInUse(f"{checkpoint} is one of the files to move aside; name another --work-dir")
    return True


def check_nothing_is_lost(folder: Path) -> None:
    """Refuse to start from the beginning in a folder that holds checkpoints, even damaged ones.

    Raises:
        WorkDirInUse: there are checkpoints; the message names them.
    """
    saved = checkpoints_of(folder)
    if saved:
        raise WorkDirInUse(
            f"{folder} holds checkpoints ({', '.join(path.name for path in saved[:4])}), but none of them can be "
            "resumed from; --overwrite in place of --resume moves them aside and starts from the beginning"
        )


def make_log_folder(folder: Path, timestamp: str) -> str:
    """Create `folder/timestamp`, with a number appended if another run has created that, and return its name."""
    folder.mkdir(parents=True, exist_ok=True)
    return _make_unused(folder, timestamp)


class WorkDirLock:
    """Keep other processes from training in `folder`, until `release` or the end of the process.

    Only this process holds the lock: loader workers that outlive it for a moment do not. On a file system without
    locks, the folder counts as taken if it names a living process of this host; `doubt` then states what cannot be
    known.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.doubt = ""
        """A warning for the user if nothing can be locked; "" otherwise."""
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Take the lock, unless this process holds it already.

        Raises:
            WorkDirInUse: another process trains in the folder; the message names it.
        """
        if self._descriptor is not None:
            return
        descriptor = os.open(self.folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        is_ours = lock_file(descriptor)
        holder = _read_holder(descriptor)
        if is_ours is False or (is_ours is None and _is_alive(holder)):
            os.close(descriptor)
            if (holder.get("pid"), holder.get("process")) == (os.getpid(), _PROCESS):
                return  # an earlier runner of this process, which is not collected yet
            raise WorkDirInUse(
                f"another training runs in {self.folder}: {_describe(holder)}; "
                "wait for its end, or name another --work-dir"
            )
        if is_ours is None:
            last_holder = f" (the last one that did not say it ended: {_describe(holder)})" if holder else ""
            self.doubt = f"{self.folder} is on a file system without locks: let no other run train there{last_holder}"
        self._descriptor = descriptor
        os.register_at_fork(after_in_child=partial(_close_in_child, weakref.ref(self)))
        _write_holder(descriptor)

    def release(self) -> None:
        """Let other processes train in the folder."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            self._close()

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __del__(self) -> None:
        self.release()


def _is_newest(checkpoint: Path | None, saved: list[Path]) -> bool:
    """Return whether `checkpoint` is the newest one: later files would stem from another course of the run."""
    return checkpoint is None or any(path.exists() and path.samefile(checkpoint) for path in saved[:1])


def _move_aside(folder: Path, with_configs: bool) -> Path:
    """Move what training runs write (checkpoints, configs, logs and reports) into a new folder within `folder`."""
    target = folder / _make_unused(folder, f"earlier-{time.strftime('%Y%m%d-%H%M%S')}")
    logs = [path for path in folder.iterdir() if path.is_dir() and _LOG_FOLDER.fullmatch(path.name)]
    configs = folder.glob("*.py") if with_configs else ()
    reports = [path for pattern in REPORT_FILES for path in folder.glob(pattern)]
    for path in [*checkpoints_of(folder), *configs, *logs, *reports]:
        shutil.move(path, target / path.name)
    return target


def _make_unused(folder: Path, name: str) -> str:
    """Create `folder/name`, or `folder/name-2` and so on, and return its name."""
    number = 1
    while True:
        unused = name if number == 1 else f"{name}-{number}"
        try:
            (folder / unused).mkdir()
            return unused
        except FileExistsError:
            number += 1


def _read_holder(descriptor: int) -> dict[str, str | int]:
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
    except ValueError:  # it is being written
        return {}
    return holder if isinstance(holder, dict) else {}


def _write_holder(descriptor: int) -> None:
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    holder["process"] = _PROCESS  # a forked child has the same, with another pid
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(holder).encode(), 0)


def _describe(holder: Mapping[str, str | int]) -> str:
    return (
        f"process {holder.get('pid', 'unknown')} on {holder.get('host', 'an unknown host')} "
        f"since {holder.get('since', 'an unknown time')}"
    )


def _is_alive(holder: Mapping[str, str | int]) -> bool:
    """Return whether the holder is a running process of this host; False if unknown: on other hosts, and on Windows."""
    pid = holder.get("pid")
    if holder.get("host") != socket.gethostname() or not isinstance(pid, int) or os.name == "nt":
        return False
    if pid == os.getpid():  # process ids of containers may be equal
        return holder.get("process") == _PROCESS
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it runs, as another user
    return True


def _close_in_child(reference: "weakref.ref[WorkDirLock]") -> None:
    lock = reference()
    if lock is not None:
        lock._close()
