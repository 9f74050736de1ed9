"""Checks of arguments that many parts share.

An error is one line that states the argument, what was expected and what was given.
"""

import difflib
import inspect
import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, fields
from numbers import Integral, Real
from typing import Any, TypeVar

from openvocab.former_names import arguments_in_groups

Group = TypeVar("Group")
Built = TypeVar("Built")


def check_choice(argument: str, value: object, choices: Iterable[str | None]) -> None:
    """Check that an argument is one of several choices.

    Raises:
        ValueError: `value` is not among `choices`.
    """
    choices = tuple(choices)
    if value not in choices:
        raise ValueError(f"{argument}: expected one of {', '.join(map(str, choices))}, got {_shortened(value)}")


def check_flags(flags: Mapping[str, Any]) -> None:
    """Check that arguments, given by name, are True or False.

    Raises:
        ValueError: any other value, even one that Python treats as true or false.
    """
    for argument, flag in flags.items():
        if not isinstance(flag, bool):
            raise ValueError(f"{argument}: expected True or False, got {_shortened(flag)}")


def check_texts(texts: Mapping[str, Any]) -> None:
    """Check that arguments, given by name, are strings.

    Raises:
        ValueError: another type.
    """
    for argument, text in texts.items():
        if not isinstance(text, str):
            raise ValueError(f"{argument}: expected a string, got {_shortened(text)}")


def check_fraction(argument: str, value: object) -> None:
    """Check that an argument is a number from 0 to 1.

    Raises:
        ValueError: anything else; True and False are no numbers.
    """
    if not _is_number(value, 0, whole=False) or float(value) > 1:  # type: ignore[arg-type]  # a number by now
        raise ValueError(f"{argument}: expected a number from 0 to 1, got {_shortened(value)}")


def check_number(
    argument: str, value: object, minimum: float | None = None, *, whole: bool = False, optional: bool = False
) -> None:
    """Check that an argument is a finite number, `whole` or not, of at least `minimum`; with `optional`, or None.

    Raises:
        ValueError: anything else; True and False are not numbers.
    """
    if not (optional and value is None) and not _is_number(value, minimum, whole):
        bound = "" if minimum is None else f" of at least {minimum}"
        choice = ", or None" if optional else ""
        raise ValueError(f"{argument}: expected a {'whole ' * whole}number{bound}{choice}, got {_shortened(value)}")


def check_numbers(
    argument: str, values: object, minimum: float | None = None, *, whole: bool = False, count: int | None = None
) -> None:
    """Check that an argument is a list of finite numbers, each as in `check_number`; with `count`, of so many.

    Raises:
        ValueError: anything else.
    """
    is_list = isinstance(values, Sequence) and not isinstance(values, (str, bytes))
    is_list = is_list and (count is None or len(values) == count)  # type: ignore[arg-type]  # a sequence by now
    if not is_list or not all(_is_number(value, minimum, whole) for value in values):  # type: ignore[attr-defined]
        bound = "" if minimum is None else f" of at least {minimum}"
        length = "" if count is None else f"{count} "
        raise ValueError(
            f"{argument}: expected a list of {length}{'whole ' * whole}numbers{bound}, got {_shortened(values)}"
        )


def check_paths(optional: Mapping[str, Any] | None = None, **paths: Any) -> None:
    """Check that arguments, given by name, are paths; those in `optional` may be None.

    Raises:
        ValueError: an argument is neither a string nor a path.
    """
    given = {argument: path for argument, path in (optional or {}).items() if path is not None}
    for argument, path in {**paths, **given}.items():
        if not isinstance(path, (str, os.PathLike)):
            raise ValueError(f"{argument}: expected a path, got {_shortened(path)}")


def argument_group(argument: str, given: Mapping[str, Any] | Group | None, group_type: type[Group]) -> Group:
    """Return a group of arguments that a config states as a dict, such as `labels=dict(reduce_zero_label=True)`.

    Args:
        argument: its name, for messages.
        given: a dict, or the group itself; default: the defaults of its fields.
        group_type: a dataclass with one field per argument of the group.

    Raises:
        TypeError: `given` is of the wrong type, has an unknown argument, or lacks a required one.
    """
    if isinstance(given, group_type):
        return given
    known = {field.name: field for field in fields(group_type)}  # type: ignore[arg-type]  # typing has no dataclass type
    required = [name for name, field in known.items() if field.default is field.default_factory is MISSING]
    return group_type(**_checked_group(argument, given, list(known), required))


def construct_group(argument: str, given: Mapping[str, Any] | None, kind: Callable[..., Built], **passed: Any) -> Built:
    """Construct a part from the arguments that a config gives as a dict, `pyramid=dict(layers=(1, 2))`.

    Args:
        argument: name of the dict, for messages.
        given: the dict; None gives an empty one.
        kind: the class.
        passed: arguments that a config does not set.

    Raises:
        TypeError: the wrong type, an unknown argument, or a missing one.
        TypeError, ValueError: those of the class, with `argument` before the name of its own.
    """
    taken = {name: part for name, part in inspect.signature(kind).parameters.items() if name not in passed}
    required = [name for name, part in taken.items() if part.default is part.empty]
    moved = arguments_in_groups(kind) if inspect.isclass(kind) else {}
    given = _checked_group(argument, given, list(taken), required, moved)
    with _errors_below(argument):
        return kind(**passed, **given)


@contextmanager
def _errors_below(argument: str) -> Iterator[None]:
    """Let errors about `layers` be about `pyramid.layers`, where `argument` is `pyramid`."""
    try:
        yield
    except (TypeError, ValueError) as error:
        if not re.match(r"[a-z_][a-z0-9_.]*: ", str(error)):
            raise
        raise type(error)(f"{argument}.{error}") from error


def _checked_group(
    argument: str, given: Any, known: list[str], required: list[str], moved: Mapping[str, str] | None = None
) -> Mapping[str, Any]:
    """Return the arguments of a group after a check of their names; `moved` maps former names to present ones."""
    given = {} if given is None else given
    if not isinstance(given, Mapping):
        form = f"{argument.rpartition('.')[2]}=dict({known[0]}=...)"
        raise TypeError(
            f"{argument}: expected a dict with some of {', '.join(known)}, such as {form}, got {_shortened(given)}"
        )
    unknown = [name for name in given if name not in known]
    if unknown:
        present = {**(moved or {}), **{name: repr(name) for name in known}}
        close = difflib.get_close_matches(str(unknown[0]), present, n=1)
        hint = f"did you mean {present[close[0]]}? " if close else ""
        raise TypeError(f"{argument}: unknown {unknown[0]!r}; {hint}expected some of {', '.join(known)}")
    missing = [name for name in required if name not in given]
    if missing:
        raise TypeError(f"{argument}: {missing[0]!r} is missing; expected a dict with some of {', '.join(known)}")
    return given


def _is_number(value: object, minimum: float | None, whole: bool) -> bool:
    if isinstance(value, bool) or not isinstance(value, Integral if whole else Real):
        return False
    return math.isfinite(value) and (minimum is None or float(value) >= minimum)


def _shortened(value: object) -> str:
    """Return a value for a message: the start of its representation, in one line."""
    return " ".join(repr(value).split())[:60]
