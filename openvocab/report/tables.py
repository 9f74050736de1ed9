"""The tables of a run as CSV: `results.csv` and `per_class.csv`."""

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

from openvocab.metrics.class_table import column_units
from openvocab.report.evaluation_record import EvaluationRecord
from openvocab.report.run_record import RunRecord


def results_csv(record: RunRecord) -> str:
    """Return one line per logged iteration, below a line of titles with units; what was not logged is empty."""
    columns = record.columns()
    titles = [record.titled(name) for name in columns]
    return _csv_text([titles, *([row.get(name) for name in columns] for row in record.rows)])


def results_line(record: RunRecord, columns: Sequence[str]) -> str:
    """Return the last row of `results_csv` alone, for a file that has these columns."""
    return _csv_text([[record.rows[-1].get(name) for name in columns]])


def class_table_rows(best: EvaluationRecord | None, last: EvaluationRecord | None) -> list[dict[str, Any]]:
    """Return one row per class: its name and role, then its scores at the best and at the last validation.

    Where both are the same validation, or there is no best one, the scores are there once.
    """
    if last is None:
        return []
    if best is None or best.iteration == last.iteration:
        units = column_units(last.class_rows)
        return [{_titled(name, units): value for name, value in row.items()} for row in last.class_rows]
    units = column_units([*best.class_rows, *last.class_rows])
    of_best = {row["class"]: row for row in best.class_rows}
    return [_merged(of_best.get(row["class"], {}), row, units) for row in last.class_rows]


def per_class_csv(best: EvaluationRecord | None, last: EvaluationRecord | None) -> str:
    """Return `class_table_rows` as CSV with a line of titles; "" without rows."""
    rows = class_table_rows(best, last)
    return _csv_text([list(rows[0]), *(list(row.values()) for row in rows)]) if rows else ""


def _merged(best: dict[str, Any], last: dict[str, Any], units: dict[str, str]) -> dict[str, Any]:
    """Return a row whose scores, the columns with a unit, are there twice."""
    merged: dict[str, Any] = {}
    for name, value in last.items():
        if name in units:
            merged[f"best {_titled(name, units)}"] = best.get(name)
            merged[f"last {_titled(name, units)}"] = value
        else:
            merged[name] = value
    return merged


def _titled(name: str, units: dict[str, str]) -> str:
    return f"{name} ({units[name]})" if name in units else name


def _csv_text(lines: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([_cell(value) for value in line] for line in lines)
    return text.getvalue()


def _cell(value: Any) -> Any:
    """Return what `csv` writes: floats so that reading them gives the same bits, whole numbers without a point."""
    if isinstance(value, float):
        if math.isnan(value):
            return ""
        return int(value) if value.is_integer() and abs(value) < 2**53 else repr(value)
    return value
