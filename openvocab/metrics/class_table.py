"""The scores of single classes: a text table for the log, and what the parts of a table have in common."""

from collections.abc import Iterable, Sequence
from typing import Any

from openvocab.metrics.units import PERCENT
from openvocab.vocabulary.vocabulary import Vocabulary


def class_role(vocabulary: Vocabulary, index: int) -> str | None:
    """Return "background", "seen" or "unseen"; None where the question does not arise."""
    if index == vocabulary.background:
        return "background"
    if vocabulary.seen is None:
        return None
    return "seen" if vocabulary.seen[index] else "unseen"


def column_units(rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Return {column: unit} of the columns of floats, which are percentages (see `Metric.class_rows`)."""
    return {name: PERCENT for row in rows for name, value in row.items() if isinstance(value, float)}


def merge_rows(tables: Iterable[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Put the tables of several metrics side by side, by the names of the classes."""
    merged: dict[str, dict[str, Any]] = {}
    for row in (row for table in tables for row in table):
        merged.setdefault(row["class"], {}).update(row)
    return list(merged.values())


def class_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows that have the same columns as an aligned text table, percentages marked in its head."""
    units = column_units(rows)
    head = [f"{name} ({units[name]})" if name in units else name for name in rows[0]]
    cells = [head, *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells)]
    is_number = [isinstance(value, (int, float)) for value in rows[0].values()]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width) for cell, width, right in zip(line, widths, is_number)
        ).rstrip()
        for line in cells
    )


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if isinstance(value, float) else str(value)
