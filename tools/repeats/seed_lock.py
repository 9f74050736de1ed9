"""A lock, so that only one process works on a seed."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from openvocab.files.atomic_files import lock_file


@contextmanager
def seed_lock(folder: Path) -> Iterator[None]:
    """Keep other calls of tools/repeat.py from the seed of `folder`, until the block or the process ends.

    The locked file is next to the folder, so that the lock holds even if the folder is removed.

    Raises:
        ValueError: another process works there; the message names it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder.with_name(f".{folder.name}.lock"), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        if lock_file(descriptor) is False:
            holder = os.pread(descriptor, 4096, 0).decode(errors="replace") or "just begun"
            raise ValueError(
                f"another tools/repeat.py works in {folder}: {holder}; wait for its end, or name another --work-dir"
            )
        holder = f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}"
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, holder.encode(), 0)
        yield
    finally:
        os.close(descriptor)
