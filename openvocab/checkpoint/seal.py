"""Store the SHA-256 of a checkpoint in the comment field at the end of the zip archive that torch writes.

The file remains readable for `torch.load`, and unlike a digest in a second file it is copied with the checkpoint.
"""

import hashlib
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FORMAT = "openvocab-1"
_SEAL = re.compile(rb"sha256:([0-9a-f]{64}) " + FORMAT.encode() + rb"\n\Z")
_SEAL_LENGTH = len("sha256:") + 64 + len(f" {FORMAT}\n")
_CHUNK = 1 << 22


class CheckpointCorrupt(ValueError):
    """The file is damaged."""


def seal(file: Any) -> None:
    """Write the digest of all bytes before it into the comment field of the zip archive in `file`."""
    file.flush()
    file.seek(-2, os.SEEK_END)
    if file.read(2) != b"\0\0":  # an archive without a comment ends with the comment's length, 0
        raise RuntimeError("the archive has no empty comment field at its end")
    file.seek(-2, os.SEEK_END)
    file.write(struct.pack("<H", _SEAL_LENGTH))
    file.seek(0)
    digest = digest_of(file, None)
    file.write(f"sha256:{digest} {FORMAT}\n".encode())


def check_seal(path: Path) -> bool:
    """Return whether the file has a digest, after comparing it with the content.

    Raises:
        CheckpointCorrupt: the digest differs.
    """
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _SEAL_LENGTH))
        match = _SEAL.search(file.read())
        if not match:
            return False
        file.seek(0)
        actual = digest_of(file, size - _SEAL_LENGTH)
    expected = match.group(1).decode()
    if actual != expected:
        raise CheckpointCorrupt(f"{path} is damaged: expected SHA-256 {expected}, actual {actual}")
    return True


def digest_of(file: Any, size: int | None) -> str:
    """Return the SHA-256 of the next `size` bytes; None for all bytes up to the end."""
    digest = hashlib.sha256()
    for chunk in _chunks(file, size):
        digest.update(chunk)
    return digest.hexdigest()


def _chunks(file: Any, size: int | None) -> Iterator[bytes]:
    remaining = size
    while chunk := file.read(_CHUNK if remaining is None else min(_CHUNK, remaining)):
        remaining = None if remaining is None else remaining - len(chunk)
        yield chunk
