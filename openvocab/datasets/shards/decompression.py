"""Compressed streams, unpacked a piece at a time: what 10 kB of bzip2 stand for can be gigabytes."""

import bz2
import gzip
import lzma
from typing import BinaryIO

XZ_MEMORY = 2**27
"""Bytes that the dictionary of an xz stream may take; `xz -9` needs 65 MB."""
_CHUNK = 2**16


def decompressed(stream: BinaryIO) -> BinaryIO:
    """Return the content of a stream: of gzip, bzip2 or xz by its first bytes, else the stream as it is.

    No read takes much more memory than the number of bytes it asks for. A stream that is cut off raises EOFError.
    """
    start = stream.read(6)
    rejoined = _Rejoined(start, stream)
    if start.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=rejoined, mode="rb")
    if start.startswith(b"BZh"):
        return bz2.BZ2File(rejoined)
    if start.startswith((b"\xfd7zXZ\0", b"]\0\0\x80")):
        return _XzStream(rejoined)
    return rejoined


class _Rejoined:
    """A stream whose start has been read already."""

    def __init__(self, start: bytes, stream: BinaryIO) -> None:
        self._start, self._stream = start, stream

    def read(self, size: int) -> bytes:
        if not self._start:
            return self._stream.read(size)
        part, self._start = self._start[:size], self._start[size:]
        return part


class _XzStream:
    """The content of an xz stream; Python's LZMAFile has no limit of memory."""

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
