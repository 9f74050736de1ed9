"""Tables of the scores of single classes."""

from collections.abc import Iterable, Sequence
from typing import Any

from openvocab.metrics.units import PERCENT
from openvocab.vocabulary.vocabulary import Vocabulary


def class_role(vocabulary: Vocabulary, index: int) -> str | None:
    """Return "background", "seen" or "unseen"; None if the vocabulary has no seen flags."""
    if index == vocabulary.background:
        return "background"
    if vocabulary.seen is None:
        return None
    return "seen" if vocabulary.seen[index] else "unseen"


def column_units(rows: Sequence[dict[str, Any]]) -> dict[str, str]:
    """Return {column: unit} of the columns of floats, which are percentages (see `Metric.class_rows`)."""
    return {name: PERCENT for row in rows for name, value in row.items() if isinstance(value, float)}


def merge_rows(tables: Iterable[Sequence[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Join the tables of several metrics by the names of the classes."""
    merged: dict[str, dict[str, Any]] = {}
    for row in (row for table in tables for row in table):
        merged.setdefault(row["class"], {}).update(row)
    return list(merged.values())


def class_table(rows: Sequence[dict[str, Any]]) -> str:
    """Return rows with equal columns as an aligned text table; the titles of the columns state their units."""
    units = column_units(rows)
    titles = [f"{name} ({units[name]})" if name in units else name for name in rows[0]]
    cells = [titles, *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells)]
    is_number = [isinstance(value, (int, float)) for value in rows[0].values()]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width) for cell, width, number in zip(line, widths, is_number)
        ).rstrip()
        for line in cells
    )


def _cell(value: Any) -> str:
    """Return the text of one cell."""
    if value is None:
        return ""
    return f"{value:.2f}" if isinstance(value, float) else str(value)
