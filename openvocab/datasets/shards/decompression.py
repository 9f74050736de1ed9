"""Decompress streams piece by piece: 10 kB of bzip2 can expand to gigabytes."""

import bz2
import gzip
import lzma
from typing import BinaryIO, cast

XZ_MEMORY = 2**27
"""Maximum memory of an xz stream's dictionary in bytes; `xz -9` needs 65 MB."""
_CHUNK = 2**16


def decompressed(stream: BinaryIO) -> BinaryIO:
    """Return the content of a gzip, bzip2 or xz stream, recognized by its first bytes; any other stream as it is.

    A read takes little more memory than the number of bytes that it asks for. A truncated stream raises EOFError.
    """
    start = stream.read(6)
    rejoined = cast(BinaryIO, _Rejoined(start, stream))  # what reads a stream calls nothing but `read`
    if start.startswith(b"\x1f\x8b"):
        return cast(BinaryIO, gzip.GzipFile(fileobj=rejoined, mode="rb"))
    if start.startswith(b"BZh"):
        return cast(BinaryIO, bz2.BZ2File(rejoined))
    if start.startswith((b"\xfd7zXZ\0", b"]\0\0\x80")):
        return cast(BinaryIO, _XzStream(rejoined))
    return rejoined


class _Rejoined:
    """A stream preceded by its first bytes, which have been read already."""

    def __init__(self, start: bytes, stream: BinaryIO) -> None:
        self._start, self._stream = start, stream

    def read(self, size: int) -> bytes:
        if not self._start:
            return self._stream.read(size)
        part, self._start = self._start[:size], self._start[size:]
        return part


class _XzStream:
    """The content of an xz stream; unlike Python's LZMAFile with a limit of memory."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._decompressor = lzma.LZMADecompressor(memlimit=XZ_MEMORY)

    def read(self, size: int) -> bytes:
        while not self._decompressor.eof:
            chunk = self._stream.read(_CHUNK) if self._decompressor.needs_input else b""
            if not chunk and self._decompressor.needs_input:
                raise EOFError("the xz stream is cut off")
            content = self._decompressor.decompress(chunk, size)
            if content:
                return content
        return b""
