"""Read a large JSON file member by member, so that a long list never exists as Python objects all at once."""

import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from openvocab.files.text_files import JSON_DECODER, not_json, read_text

_SPACE = re.compile(r"[ \t\n\r]*")


def read_members(path: str | Path, streamed: Collection[str]) -> Iterator[tuple[str, Any]]:
    """Yield (key, value) of the object in a JSON file, in its order.

    A list under a key of `streamed` is an iterator over its elements, which must be exhausted before the next member is
    requested: LVIS' 1.3 million annotations would take many times the size of their file as Python objects.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is not JSON (with line and column), or not an object; see `parse_json`.
    """
    reader = _Reader(read_text(path), path)
    if reader.peek() != "{":
        raise ValueError(f"{path}: expected a JSON object, but it starts with {reader.text[:20]!r}")
    reader.mark("{")
    if reader.peek() == "}":
        return
    keys = set()
    while True:
        key = reader.value()
        if not isinstance(key, str) or key in keys:
            raise ValueError(f"{path} is not JSON: the key {str(key)[:60]!r} is not a string, or is given twice")
        keys.add(key)
        reader.mark(":")
        yield key, reader.elements() if key in streamed and reader.peek() == "[" else reader.value()
        if reader.mark(",}") == "}":
            return


class _Reader:
    """A position in the text of a JSON file."""

    def __init__(self, text: str, path: str | Path) -> None:
        self.text, self.path, self.position = text, path, 0

    def peek(self) -> str:
        """Skip white space and return the next character, "" at the end."""
        space = _SPACE.match(self.text, self.position)  # matches at any position, if only nothing
        self.position = space.end() if space else self.position
        return self.text[self.position : self.position + 1]

    def mark(self, expected: str) -> str:
        """Consume one of the `expected` characters and return it."""
        mark = self.peek()
        if not mark or mark not in expected:
            error = json.JSONDecodeError(f"Expecting one of {expected!r}", self.text, self.position)
            raise not_json(error, self.path)
        self.position += 1
        return mark

    def value(self) -> Any:
        """Consume a complete value and return it."""
        self.peek()
        try:
            value, self.position = JSON_DECODER.raw_decode(self.text, self.position)
        except (ValueError, RecursionError) as error:
            raise not_json(error, self.path) from None
        return value

    def elements(self) -> Iterator[Any]:
        """Consume a list, one element at a time."""
        self.mark("[")
        if self.peek() == "]":
            self.mark("]")
            return
        while True:
            yield self.value()
            if self.mark(",]") == "]":
                return
