"""The package's only atomic writer: a file or folder is complete under its name, or is not there.

A writer works under a temporary name, `NAME.HOST-PID-TOKEN.saving`, and holds a lock (`flock`) on it, which the kernel
releases when the process ends for whatever reason. A temporary file of this host without a lock was therefore left by a
killed writer, and the next writer in that folder removes it. One of another host is removed a day after its last
change, since locks may not work across machines. The lock decides, not the process id, since containers on one host
have separate process ids.
"""

import errno
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

try:
    import fcntl
except ImportError:  # on Windows nothing is locked, and leftovers are removed after a day
    fcntl = None  # type: ignore[assignment]  # a module that may be missing

SUFFIX = ".saving"
ABANDONED_AFTER = 86_400.0
"""Seconds without a change after which a temporary file counts as left over, where locks do not work."""
MAX_NAME_BYTES = 255
"""Maximum length of a file name on common file systems."""
_NOT_SUPPORTED = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK, errno.EBADF}


@contextmanager
def replacing(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file that replaces `path`, on the disk, when the block ends.

    After an error `path` is unchanged and the temporary file is removed. Text is UTF-8.

    Args:
        path: path of the file to replace or create.
        mode: "w", "wb" or "w+b".
    """
    with temporary_sibling(path, Path.touch) as temporary:
        with open(temporary, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        put_in_place(temporary, path)


@contextmanager
def temporary_sibling(path: Path, create: Callable[[Path], object]) -> Iterator[Path]:
    """Create a temporary file or folder next to `path`, and remove it after the block unless it has been renamed.

    Meanwhile no other process removes it as a leftover. Leftovers of killed processes in that folder are removed first.

    Args:
        path: path of the file or folder that the temporary one will replace.
        create: creates it under the name it is given: `Path.touch`, `Path.mkdir`, or a link.
    """
    remove_leftovers(path.parent)
    temporary = path.with_name(_temporary_name(path.name))
    lock = _create_locked(temporary, create)
    try:
        yield temporary
    finally:
        _remove(temporary)
        if lock is not None:
            os.close(lock)


def put_in_place(temporary: Path, path: Path) -> None:
    """Give a temporary file or folder its final name, and flush the folder that lists it to the disk."""
    os.replace(temporary, path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_SUPPORTED:  # some network file systems cannot flush folders
            raise
    finally:
        os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files and folders of writers that have certainly ended; others stay."""
    for leftover in filter(_is_temporary, folder.glob(f"*{SUFFIX}")):
        # removed in the meantime, or another user's
        with suppress(FileNotFoundError, PermissionError):
            _remove_if_abandoned(leftover)


def lock_file(descriptor: int, wait: bool = False) -> bool | None:
    """Lock an open file or folder until its last descriptor is closed or its process ends.

    Args:
        descriptor: descriptor of the open file or folder.
        wait: block until the lock is free.

    Returns:
        Whether this process holds the lock; None if the file system has no locks.
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NOT_SUPPORTED:
            return None
        raise
    return True


def _temporary_name(name: str) -> str:
    """Return a new temporary name for a file called `name`, whose end is cut off if the name would be too long.

    The suffix is always complete, since it identifies the writer.
    """
    ending = f".{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
    while name and len(os.fsencode(name + ending)) > MAX_NAME_BYTES:
        name = name[:-1]
    return name + ending


def _create_locked(temporary: Path, create: Callable[[Path], object]) -> int | None:
    """Create and lock; try again if another process removed the file as a leftover in between."""
    while True:
        create(temporary)
        try:
            descriptor = _open(temporary)
        except FileNotFoundError:
            continue
        lock_file(descriptor, wait=True)
        if temporary.exists():
            return descriptor
        os.close(descriptor)


def _remove_if_abandoned(leftover: Path) -> None:
    descriptor = _open(leftover)
    try:
        is_free = lock_file(descriptor)
        age = time.time() - os.fstat(descriptor).st_mtime
        if (is_free and _is_of_this_host(leftover)) or (is_free is not False and age > ABANDONED_AFTER):
            _remove(leftover)
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    # for writing, since network file systems lock no file that is opened for reading
    return os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)


def _is_temporary(path: Path, host: str = "[^/]+") -> bool:
    return re.search(rf"\.{host}-\d+-[0-9a-f]+{re.escape(SUFFIX)}$", path.name) is not None


def _is_of_this_host(temporary: Path) -> bool:
    return _is_temporary(temporary, re.escape(socket.gethostname()))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
