"""Escape text so that any terminal, log or pipe accepts it, whatever characters names of files and classes have."""

from typing import TextIO


def printable(text: str) -> str:
    """Return `text` in one printable line; other characters become escapes such as `\\n`."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def encodable(text: str, stream: TextIO) -> str:
    """Return `text` with escapes for the characters that the encoding of `stream` lacks."""
    encoding = stream.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)
