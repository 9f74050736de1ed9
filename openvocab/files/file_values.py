"""Read numbers and flags from files and arguments, in any type and spelling, by stricter rules than Python's own."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

_FORM = r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?"  # no 1_000, no digits of other scripts
_NUMBER = re.compile(_FORM, re.ASCII | re.IGNORECASE)
_LINES_OF_NUMBERS = re.compile(rf"{_FORM}(?:\n{_FORM})*", re.ASCII | re.IGNORECASE)
_DIGITS = re.compile(r"[+-]?\d{1,19}", re.ASCII)
_NOT_FINITE = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
_FLAGS = {"true": True, "yes": True, "false": False, "no": False}
_PLAIN = {int, float}


def number(value: Any, member: str) -> float:
    """Return a number, which may be infinite or NaN. Text is parsed; a flag, null and blanks are not numbers.

    Args:
        value: as it was read.
        member: its name in the file, or the argument's name, for the error; the caller adds file and entry.

    Raises:
        ValueError: anything else.
    """
    text = value.strip() if isinstance(value, str) else ""
    try:
        if _is_number(value) or _NUMBER.fullmatch(text) or _NOT_FINITE.fullmatch(text):
            return float(value)
    except OverflowError:  # an integer beyond the range of floats
        pass
    raise ValueError(f"{member}: expected a number, got {_shortened(value)}")


def numbers(values: Any, member: str, count: int | None = None) -> list[float]:
    """Return a list of numbers, of length `count` unless it is None; see `number`.

    Raises:
        ValueError: not a list, a list of the wrong length, or an element that is not a number.
    """
    if not isinstance(values, list | tuple) or (count is not None and len(values) != count):
        raise ValueError(
            f"{member}: expected {'a list of' if count is None else count} numbers, got {_shortened(values)}"
        )
    types = set(map(type, values))
    if types <= _PLAIN:
        return values if isinstance(values, list) else list(values)
    if types == {str} and _are_numbers(values):
        return list(map(float, values))
    return [number(value, member) for value in values]


def whole_number(value: Any, member: str) -> int:
    """Return an integer; a float or text without a fractional part is one: 1.0, "1" and "1.000e+00". See `number`.

    Raises:
        ValueError: anything else, or more than 64 bits.
    """
    is_int = type(value) is int or (isinstance(value, Integral) and _is_number(value))
    if is_int or (isinstance(value, str) and _DIGITS.fullmatch(value.strip())):
        integer = int(value)
    else:
        try:
            parsed = number(value, member)
        except ValueError:
            parsed = math.nan
        if not parsed.is_integer():
            raise ValueError(f"{member}: expected a whole number, got {_shortened(value)}")
        integer = int(parsed)
    if not -(2**63) <= integer < 2**63:
        raise ValueError(f"{member}: expected a whole number of at most 64 bits, got {_shortened(value)}")
    return integer


def whole_numbers(values: Any, member: str) -> list[int]:
    """Return a list of integers in the given order; see `whole_number`.

    Raises:
        ValueError: text, a mapping, something that is not iterable, or an element that is not an integer.
    """
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise ValueError(f"{member}: expected a list of whole numbers, got {_shortened(values)}")
    return [whole_number(value, member) for value in values]


def count_from_1(value: Any, member: str) -> int:
    """Return an integer of at least 1; see `whole_number`.

    Raises:
        ValueError: anything else.
    """
    count = whole_number(value, member)
    if count < 1:
        raise ValueError(f"{member}: expected at least 1, got {count}")
    return count


def flag(value: Any, member: str) -> bool:
    """Return a flag: true or false, 1 or 0, or text that spells one of them ("0", "yes"); null is false.

    Raises:
        ValueError: anything else, even if Python would convert it, such as 2 or "on".
    """
    if value is None or isinstance(value, bool):
        return bool(value)
    word = value.strip().lower() if isinstance(value, str) else ""
    if word in _FLAGS:
        return _FLAGS[word]
    try:
        return {0.0: False, 1.0: True}[number(value, member)]
    except (ValueError, KeyError):
        raise ValueError(f"{member}: expected 0 or 1, or true or false, got {_shortened(value)}") from None


def _is_number(value: Any) -> bool:
    """Return whether a value is a number of Python or numpy; a bool is not."""
    return type(value) in _PLAIN or (isinstance(value, Real) and not isinstance(value, bool))


def _are_numbers(texts: Sequence[str]) -> bool:
    """Return whether all texts are finite numbers without blanks; one match is much faster than one per text."""
    lines = "\n".join(texts)
    return lines.count("\n") == len(texts) - 1 and _LINES_OF_NUMBERS.fullmatch(lines) is not None


def _shortened(value: Any) -> str:
    return repr(value)[:60]
