"""Parse `--cfg-options KEY=VALUE`, by which the tools override values of a config.

A value is a number, True, False, None or a text; with commas outside of brackets, or in brackets, it is a list, and in
parentheses a tuple. A dict is given by its keys, `key.name=value`. A text keeps its spaces. A quoted text is never
split: `key='"a, b"'` is one text, in which a doubled quote mark means one.
"""

import re
from argparse import Action, ArgumentError, ArgumentParser, Namespace
from collections.abc import Sequence
from typing import Any

AMP_CHOICES = ("auto", "bf16", "off")
"""Values of `--amp` and of `build_runner`'s argument for mixed precision; in a config "off" is None."""
_CLOSING = {"(": ")", "[": "]"}
_QUOTED = r""""(?:[^"]|"")*"|'(?:[^']|'')*'"""
_MARK = re.compile(rf"(?:^|(?<=[,(\[]))\s*(?:{_QUOTED})(?=\s*(?:[,)\]]|\Z))|[,()\[\]]")
"""A quoted element of a list, or a character that structures a value."""
_DICT = re.compile(r"\{.*:.*\}", re.DOTALL)
_UNMATCHED = "its brackets do not match; put a text that is not a list in quotes"


class ConfigOptions(Action):
    """Argparse action that collects `KEY=VALUE` words in a dict, over all uses of the option."""

    def __call__(
        self, parser: ArgumentParser, namespace: Namespace, values: Any, option_string: str | None = None
    ) -> None:
        """Parse the words.

        Raises:
            ArgumentError: a word that cannot be parsed.
        """
        try:
            parsed = read_options(values)
        except ValueError as error:
            raise ArgumentError(self, str(error)) from error
        setattr(namespace, self.dest, {**(getattr(namespace, self.dest, None) or {}), **parsed})


def add_config_options(parser: ArgumentParser) -> None:
    """Add the option `--cfg-options` to a parser."""
    parser.add_argument("--cfg-options", nargs="+", action=ConfigOptions, metavar="KEY=VALUE",
                        help="change the config; put a text with commas in quotes: KEY='\"a, b\"'")  # fmt: skip


def read_options(options: Sequence[str]) -> dict[str, Any]:
    """Return the keys and values of `KEY=VALUE` words.

    Raises:
        ValueError: a word without "=", or a list whose brackets do not match.
    """
    values = {}
    for option in options:
        key, equals, text = option.partition("=")
        if not (key and equals):
            raise ValueError(f"expected KEY=VALUE, got {option!r}")
        try:
            values[key] = parse_value(text)
        except ValueError as error:
            raise ValueError(f"{option}: {error}") from error
    return values


def write_option(key: str, text: str) -> str:
    """Return the `KEY=VALUE` that `read_options` parses as this text, whatever its characters are.

    Raises:
        ValueError: a number or one of True, False, None, which are parsed as such in quotes too.
    """
    for value in (text, '"{}"'.format(text.replace('"', '""'))):
        try:
            if parse_value(value) == text:
                return f"{key}={value}"
        except ValueError:  # brackets that do not match
            continue
    raise ValueError(f"{key}: {text!r} cannot be given as a text")


def parse_value(text: str) -> Any:
    """Return the value that the VALUE of `KEY=VALUE` denotes.

    Raises:
        ValueError: a list whose brackets do not match, or a dict.
    """
    stripped = text.strip()
    if _DICT.fullmatch(stripped):
        raise ValueError("a dict is given by its keys, KEY.NAME=VALUE KEY.OTHER=VALUE; a text in braces in quotes")
    may_be_bracketed = stripped[:1] in _CLOSING and stripped.endswith(_CLOSING[stripped[0]])
    if not may_be_bracketed and "," not in text:
        return _single(text)
    marks = _outer_marks(stripped)
    if may_be_bracketed and marks[0][0] == len(stripped) - 1:
        values = _elements(stripped[1:-1], _outer_marks(stripped[1:-1]))
        return tuple(values) if stripped[0] == "(" else values
    return _elements(stripped, marks) if any(mark == "," for _, mark in marks) else _single(text)


def _elements(text: str, marks: Sequence[tuple[int, str]]) -> list[Any]:
    ends = [position for position, mark in marks if mark == ","]
    elements = [text[start:end].strip() for start, end in zip([0, *(end + 1 for end in ends)], [*ends, len(text)])]
    if not elements[-1]:  # "a," is a list of one, "" a list of none
        elements.pop()
    return [parse_value(element) for element in elements]


def _outer_marks(text: str) -> list[tuple[int, str]]:
    """Return (position, character) of the commas outside of brackets and quotes, and of outermost closing brackets."""
    outer: list[tuple[int, str]] = []
    open_brackets: list[str] = []
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
    """Return a number, True, False or None, or the text without its quotes."""
    stripped = text.strip()
    if re.fullmatch(_QUOTED, stripped):
        text = stripped = stripped[1:-1].replace(stripped[0] * 2, stripped[0])
    for number_type in (int, float):
        try:
            return number_type(stripped)
        except ValueError:
            pass
    return None if stripped == "None" else {"true": True, "false": False}.get(stripped.lower(), text)
