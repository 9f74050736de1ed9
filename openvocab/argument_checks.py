"""Checks of arguments that many parts share: the error is one line with the argument, what was expected and what was
given."""

import difflib
import inspect
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields
from typing import Any, TypeVar

Group = TypeVar("Group")


def check_choice(argument: str, value: object, choices: Iterable[str | None]) -> None:
    """Check that an argument is one of several choices.

    Raises:
        ValueError: `value` is not among `choices`.
    """
    choices = tuple(choices)
    if value not in choices:
        raise ValueError(f"{argument}: expected one of {', '.join(map(str, choices))}, got {repr(value)[:60]}")


def check_paths(optional: Mapping[str, Any] | None = None, **paths: Any) -> None:
    """Check that arguments, given by name, are paths; those in `optional` may be None.

    Raises:
        ValueError: an argument is neither a string nor a path.
    """
    given = {argument: path for argument, path in (optional or {}).items() if path is not None}
    for argument, path in {**paths, **given}.items():
        if not isinstance(path, (str, os.PathLike)):
            raise ValueError(f"{argument}: expected a path, got {path!r}")


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


def keyword_arguments(
    argument: str, given: Mapping[str, Any] | None, function: Callable[..., Any], excluded: Iterable[str] = ()
) -> dict[str, Any]:
    """Return the arguments of a function or class that a config gives as a dict, `pyramid=dict(layers=(1, 2))`.

    Args:
        argument: name of the dict, for messages.
        given: the dict; None gives an empty one.
        function: what is called with them.
        excluded: its arguments that a config does not give.

    Raises:
        TypeError: the wrong type, an unknown argument, or a missing one.
    """
    taken = {name: part for name, part in inspect.signature(function).parameters.items() if name not in excluded}
    required = [name for name, part in taken.items() if part.default is part.empty]
    return dict(_checked_group(argument, given, list(taken), required))


def _checked_group(argument: str, given: Any, known: list[str], required: list[str]) -> Mapping[str, Any]:
    """Return the arguments of a group after a check of their names."""
    given = {} if given is None else given
    if not isinstance(given, Mapping):
        raise TypeError(f"{argument}: expected a dict with some of {', '.join(known)}, got {given!r}")
    unknown = [name for name in given if name not in known]
    if unknown:
        close = difflib.get_close_matches(str(unknown[0]), known, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise TypeError(f"{argument}: unknown {unknown[0]!r}; {hint}expected some of {', '.join(known)}")
    missing = [name for name in required if name not in given]
    if missing:
        raise TypeError(f"{argument}: {missing[0]!r} is missing; expected a dict with some of {', '.join(known)}")
    return given
