"""Checks of arguments that many parts share: one line that names the argument, what was expected and what came."""

import os
from collections.abc import Iterable, Mapping
from typing import Any


def check_choice(argument: str, value: object, choices: Iterable[str | None]) -> None:
    """Check one of several words, or None where that is one of them.

    Raises:
        ValueError: `value` is none of `choices`.
    """
    choices = tuple(choices)
    if value not in choices:
        raise ValueError(f"{argument}: expected one of {', '.join(map(str, choices))}, got {value!r}")


def check_paths(optional: Mapping[str, Any] | None = None, **paths: Any) -> None:
    """Check arguments, by their names, that are paths; those of `optional` may be None.

    Raises:
        ValueError: one that is neither a text nor a path.
    """
    given = {argument: path for argument, path in (optional or {}).items() if path is not None}
    for argument, path in {**paths, **given}.items():
        if not isinstance(path, (str, os.PathLike)):
            raise ValueError(f"{argument}: expected a path, got {path!r}")
