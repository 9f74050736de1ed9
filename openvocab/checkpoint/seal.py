"""The SHA-256 of a checkpoint, in the comment field at the end of the zip archive that torch writes.

The file stays readable for `torch.load` elsewhere, survives being copied, and no second file can get out of step.
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
    """The file is not what was written."""


def seal(file: Any) -> None:
    """Put the digest of everything before it into the comment field of the zip archive in `file`."""
    file.flush()
    file.seek(-2, os.SEEK_END)
    if file.read(2) != b"\0\0":  # the length of the comment closes an archive without comment
        raise RuntimeError("the archive has no empty comment field at its end")
    file.seek(-2, os.SEEK_END)
    file.write(struct.pack("<H", _SEAL_LENGTH))
    file.seek(0)
    digest = digest_of(file, None)
    file.write(f"sha256:{digest} {FORMAT}\n".encode())


def check_seal(path: Path) -> bool:
    """Say whether the file carries a digest, having compared it with the content.

    Raises:
        CheckpointCorrupt: they differ.
    """
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _SEAL_LENGTH))
        found = _SEAL.search(file.read())
        if not found:
            return False
        file.seek(0)
        actual = digest_of(file, size - _SEAL_LENGTH)
    expected = found.group(1).decode()
    if actual != expected:
        raise CheckpointCorrupt(f"{path} is damaged: expected SHA-256 {expected}, actual {actual}")
    return True


def digest_of(file: Any, size: int | None) -> str:
    """Return the SHA-256 of the next `size` bytes, None = of the rest."""
    digest = hashlib.sha256()
    for chunk in _chunks(file, size):
        digest.update(chunk)
    return digest.hexdigest()


def _chunks(file: Any, size: int | None) -> Iterator[bytes]:
    left = size
    while chunk := file.read(_CHUNK if left is None else min(_CHUNK, left)):
        left = None if left is None else left - len(chunk)
        yield chunk
