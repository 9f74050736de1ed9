"""What a command prints on stdout: text for people, or one JSON value for programs."""

import json
import math
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from openvocab.files.printable_text import encodable


def write_answer(text: str, value: Any, as_json: bool) -> None:
    """Write the result of a command to stdout; a reader that has gone away (`| head`) is no error.

    Args:
        text: for people; "" writes nothing.
        value: the same for programs: numbers, texts, paths, and lists and dicts of them; NaN becomes null.
        as_json: whether `--json` was given.
    """
    stream = sys.stdout
    if stream is None:  # closed by the shell: `>&-`
        return
    text = _json(value, stream) if as_json else encodable(text, stream)
    if not text:
        return
    try:
        stream.write(text.removesuffix("\n") + "\n")
        stream.flush()
    except BrokenPipeError:
        with open(os.devnull, "w") as null:  # else Python reports the same at its end
            os.dup2(null.fileno(), stream.fileno())


def _json(value: Any, stream: TextIO) -> str:
    """Return a value as JSON; in ASCII alone if the stream cannot hold its other characters."""
    value = _plain(value)
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    return text if encodable(text, stream) == text else json.dumps(value, indent=2, allow_nan=False)


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
    if sys.stdout is not None and sys.stdout.isatty():
        columns = shutil.get_terminal_size().columns
        lines = [line if len(line) <= columns else f"{line[: columns - 1]}…" for line in lines]
    return "\n".join(lines)
