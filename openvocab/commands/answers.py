"""What a command prints on stdout: text for people, or one JSON value for programs."""

import json
import math
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def write_answer(text: str, value: Any, as_json: bool) -> None:
    """Write the result of a command to stdout; a reader that has gone away (`| head`) is no error.

    Args:
        text: for people; "" writes nothing.
        value: the same for programs: numbers, texts, paths, and lists and dicts of them; NaN becomes null.
        as_json: whether `--json` was given.
    """
    if as_json:
        text = json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False)
    if not text:
        return
    try:
        sys.stdout.write(text.removesuffix("\n") + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        with open(os.devnull, "w") as null:  # else Python reports the same at its end
            os.dup2(null.fileno(), sys.stdout.fileno())


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows, of which the first is the head, as aligned columns; on a terminal, lines are cut at its width."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths)).rstrip() for row in rows]
    if sys.stdout.isatty():
        columns = shutil.get_terminal_size().columns
        lines = [line if len(line) <= columns else f"{line[: columns - 1]}…" for line in lines]
    return "\n".join(lines)
