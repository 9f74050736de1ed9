"""`--cfg-options KEY=VALUE` of the tools: how values are written on a command line.

A value is a number, True, False, None or a text; with commas outside of brackets, or in brackets, it is a list, and in
parentheses a tuple. A text keeps its blanks. What stands in quotes is never taken apart: `key='"a, b"'` is one text, in
which a doubled quote mark stands for itself.
"""

import re
from argparse import Action, ArgumentError, ArgumentParser, Namespace
from collections.abc import Sequence
from typing import Any

_CLOSING = {"(": ")", "[": "]"}
_QUOTED = r""""(?:[^"]|"")*"|'(?:[^']|'')*'"""
_MARK = re.compile(rf"(?:^|(?<=[,(\[]))\s*(?:{_QUOTED})(?=\s*(?:[,)\]]|\Z))|[,()\[\]]")
"""A quoted element of a list, or a character that takes a value apart."""
_UNMATCHED = "its brackets do not match; a text that is no list stands in quotes"


class ConfigOptions(Action):
    """Argparse action that collects `KEY=VALUE` words in a dict; later ones add to earlier ones."""

    def __call__(
        self, parser: ArgumentParser, namespace: Namespace, values: Any, option_string: str | None = None
    ) -> None:
        """Read the words.

        Raises:
            ArgumentError: one that cannot be read.
        """
        try:
            read = read_options(values)
        except ValueError as error:
            raise ArgumentError(self, str(error)) from error
        setattr(namespace, self.dest, {**(getattr(namespace, self.dest, None) or {}), **read})


def add_config_options(parser: ArgumentParser) -> None:
    """Give a tool the option `--cfg-options`."""
    parser.add_argument("--cfg-options", nargs="+", action=ConfigOptions, metavar="KEY=VALUE",
                        help="change the config; a text with commas stands in quotes: KEY='\"a, b\"'")  # fmt: skip


def read_options(options: Sequence[str]) -> dict[str, Any]:
    """Return the keys and values of `KEY=VALUE` words.

    Raises:
        ValueError: a word without "=", or a list whose brackets do not match.
    """
    read = {}
    for option in options:
        key, equals, text = option.partition("=")
        if not (key and equals):
            raise ValueError(f"expected KEY=VALUE, got {option!r}")
        try:
            read[key] = parse_value(text)
        except ValueError as error:
            raise ValueError(f"{option}: {error}") from error
    return read


def write_option(key: str, text: str) -> str:
    """Return the `KEY=VALUE` that is read as this text, whatever its characters are.

    Raises:
        ValueError: a number or one of True, False, None, which are read as such in quotes too.
    """
    for value in (text, '"{}"'.format(text.replace('"', '""'))):
        try:
            if parse_value(value) == text:
                return f"{key}={value}"
        except ValueError:  # brackets that do not match
            continue
    raise ValueError(f"{key}: {text!r} cannot be given as a text")


def parse_value(text: str) -> Any:
    """Return what the VALUE of `KEY=VALUE` stands for.

    Raises:
        ValueError: a list whose brackets do not match.
    """
    bare = text.strip()
    may_be_bracketed = bare[:1] in _CLOSING and bare.endswith(_CLOSING[bare[0]])
    if not may_be_bracketed and "," not in text:
        return _single(text)
    marks = _outer_marks(bare)
    if may_be_bracketed and marks[0][0] == len(bare) - 1:
        values = _elements(bare[1:-1], _outer_marks(bare[1:-1]))
        return tuple(values) if bare[0] == "(" else values
    return _elements(bare, marks) if any(mark == "," for _, mark in marks) else _single(text)


def _elements(text: str, marks: Sequence[tuple[int, str]]) -> list[Any]:
    ends = [place for place, mark in marks if mark == ","]
    elements = [text[start:end].strip() for start, end in zip([0, *(end + 1 for end in ends)], [*ends, len(text)])]
    if not elements[-1]:  # "a," is a list of one, "" a list of none
        elements.pop()
    return [parse_value(element) for element in elements]


def _outer_marks(text: str) -> list[tuple[int, str]]:
    """Return the commas outside of brackets and quotes, and what closes the outermost brackets, with their places."""
    outer, open_brackets = [], []
    for match in _MARK.finditer(text):
        mark = match.group()
        if mark in _CLOSING:
            open_brackets.append(mark)
        elif mark in _CLOSING.values() and (not open_brackets or _CLOSING[open_brackets.pop()] != mark):
            raise ValueError(_UNMATCHED)
        if not open_brackets and len(mark) == 1:
            outer.append((match.start(), mark))
    if open_brackets:
        raise ValueError(_UNMATCHED)
    return outer


def _single(text: str) -> Any:
    """Return a number, True, False or None, or the text without the quotes around it."""
    bare = text.strip()
    if re.fullmatch(_QUOTED, bare):
        text = bare = bare[1:-1].replace(bare[0] * 2, bare[0])
    for kind in (int, float):
        try:
            return kind(bare)
        except ValueError:
            pass
    return None if bare == "None" else {"true": True, "false": False}.get(bare.lower(), text)
