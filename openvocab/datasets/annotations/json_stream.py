"""A big JSON file, member by member: its long lists never become Python objects as a whole."""

import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from openvocab.files.text_files import JSON_DECODER, not_json, read_text

_SPACE = re.compile(r"[ \t\n\r]*")


def read_members(path: str | Path, streamed: Collection[str]) -> Iterator[tuple[str, Any]]:
    """Yield (key, value) of the object in a JSON file, in its order.

    A list under a key of `streamed` comes as an iterator over its elements, to be used up before the next member is
    asked for: LVIS' 1.3 million annotations would take many times the size of their file as Python objects.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is not JSON (with line and column), or no object; see `parse_json`.
    """
    reader = _Reader(read_text(path), path)
    if reader.peek() != "{":
        raise ValueError(f"{path}: expected a JSON object, it starts with {reader.text[:20]!r}")
    reader.mark("{")
    if reader.peek() == "}":
        return
    found = set()
    while True:
        key = reader.value()
        if not isinstance(key, str) or key in found:
            raise ValueError(f"{path} is not JSON: the key {str(key)[:60]!r} is not a string, or is given twice")
        found.add(key)
        reader.mark(":")
        yield key, reader.elements() if key in streamed and reader.peek() == "[" else reader.value()
        if reader.mark(",}") == "}":
            return


class _Reader:
    """A place in the text of a JSON file."""

    def __init__(self, text: str, path: str | Path) -> None:
        self.text, self.path, self.place = text, path, 0

    def peek(self) -> str:
        """Skip white space and return the next character, "" at the end."""
        self.place = _SPACE.match(self.text, self.place).end()
        return self.text[self.place : self.place + 1]

    def mark(self, expected: str) -> str:
        """Take one of the `expected` characters."""
        mark = self.peek()
        if not mark or mark not in expected:
            error = json.JSONDecodeError(f"Expecting one of {expected!r}", self.text, self.place)
            raise not_json(error, self.path)
        self.place += 1
        return mark

    def value(self) -> Any:
        """Take a whole value."""
        self.peek()
        try:
            value, self.place = JSON_DECODER.raw_decode(self.text, self.place)
        except (ValueError, RecursionError) as error:
            raise not_json(error, self.path) from None
        return value

    def elements(self) -> Iterator[Any]:
        """Take a list, one element at a time."""
        self.mark("[")
        if self.peek() == "]":
            self.mark("]")
            return
        while True:
            yield self.value()
            if self.mark(",]") == "]":
                return
