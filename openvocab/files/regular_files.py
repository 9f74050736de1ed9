"""Open regular files only: a pipe in a folder of samples would block its reader, and a device has no end."""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

_FLAGS = os.O_RDONLY
for _name in ("O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY", "O_BINARY"):  # which of them exist depends on the platform
    _FLAGS |= getattr(os, _name, 0)


def open_regular(path: str | Path, max_bytes: int | None = None) -> BinaryIO:
    """Open a file for reading bytes, without ever waiting for a writer.

    Args:
        path: path of the file.
        max_bytes: a larger file is rejected unread, by its stated size: a sparse file can state any size. Default: no
            limit.

    Raises:
        OSError: it cannot be opened, is not a regular file, or is too large (EFBIG); `strerror` states which.
        ValueError: a name with a NUL character.
    """
    descriptor = os.open(path, _FLAGS)
    try:
        _check(os.fstat(descriptor), path, max_bytes)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: str | Path, max_bytes: int | None = None) -> bytes:
    """Return the bytes of a regular file; see `open_regular`."""
    with open_regular(path, max_bytes) as file:
        return file.read()


def _check(status: os.stat_result, path: str | Path, max_bytes: int | None) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    if max_bytes is not None and status.st_size > max_bytes:
        raise OSError(errno.EFBIG, f"{status.st_size} bytes, more than {max_bytes}", str(path))
