"""Everything that the report of a run shows; a checkpoint holds it, so that a resumed run continues it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from openvocab.report.evaluation_record import EvaluationRecord

UNITS = {"time": "s", "data_time": "s", "memory": "MB"}
"""Units of what mmengine logs of the training: per iteration, and of a GPU."""


@dataclass
class RunRecord:
    """The numbers that a run has logged, and the details of its best and its last validation."""

    rows: list[dict[str, float]] = field(default_factory=list)
    """One dict per iteration that logged anything, with `iteration` as its first entry."""
    units: dict[str, str] = field(default_factory=lambda: dict(UNITS))
    """{name: unit} of the numbers that have one."""
    scores: list[str] = field(default_factory=list)
    """Names of the scores of validations; all other numbers stem from the training."""
    best_key: str | None = None
    """The score by which the best validation is chosen; None if no checkpoint is kept as the best."""
    best: EvaluationRecord | None = None
    last: EvaluationRecord | None = None
    seconds: float = 0.0
    """Time of all parts of the run up to now."""

    def __post_init__(self) -> None:
        # kept up to date: looking for the names in all rows would take longer with every row
        self._names = dict.fromkeys(name for row in self.rows for name in row)

    def add(self, iteration: int, numbers: Mapping[str, Any]) -> bool:
        """Add what was logged at an iteration; return whether a row of this iteration was there already."""
        values = {key: float(value) for key, value in numbers.items() if _is_number(value)}
        self._names |= dict.fromkeys(["iteration", *values])
        is_known = bool(self.rows) and self.rows[-1]["iteration"] == iteration
        if is_known:
            self.rows[-1] |= values
        else:
            self.rows.append({"iteration": iteration, **values})
        return is_known

    def add_validation(self, evaluation: EvaluationRecord, scores: Mapping[str, Any], units: Mapping[str, str]) -> None:
        """Add the scores and the details of a validation."""
        numbers = {key: value for key, value in scores.items() if _is_number(value)}
        self.scores += [key for key in numbers if key not in self.scores]
        self.units |= units
        before = self.best_score()
        self.add(evaluation.iteration, numbers)
        self.last = evaluation
        if self.best_key is not None and self.best_score() != before:
            self.best = evaluation

    def best_score(self) -> tuple[float, int] | None:
        """Return the best score and its iteration, the first one that reached it; None without any finite score."""
        found = [(row[self.best_key], int(row["iteration"])) for row in self.rows if self.best_key in row]
        finite = [pair for pair in found if math.isfinite(pair[0])]
        return max(finite, key=lambda pair: (pair[0], -pair[1]), default=None)

    def columns(self) -> list[str]:
        """Return the names of all numbers: of the training in the order of their first row, then the scores."""
        return [*(name for name in self._names if name not in self.scores), *self.scores]

    def series(self, name: str) -> tuple[list[int], list[float]]:
        """Return the iterations and the values of a number that is finite."""
        pairs = [(int(row["iteration"]), row[name]) for row in self.rows if math.isfinite(row.get(name, math.nan))]
        return [iteration for iteration, _ in pairs], [value for _, value in pairs]

    def titled(self, name: str) -> str:
        """Return the name of a number with its unit: "mIoU (%)"."""
        return f"{name} ({self.units[name]})" if self.units.get(name) else name

    def to_plain(self) -> dict[str, Any]:
        """Return the content as plain values, for a checkpoint."""
        details = {name: getattr(self, name) for name in ("best", "last")}
        return {
            "rows": [dict(row) for row in self.rows],
            "units": dict(self.units),
            "scores": list(self.scores),
            "best_key": self.best_key,
            "seconds": self.seconds,
            **{name: None if value is None else value.to_plain() for name, value in details.items()},
        }

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> "RunRecord":
        """Return what `to_plain` has stored."""
        details = {
            name: None if values[name] is None else EvaluationRecord.from_plain(values[name])
            for name in ("best", "last")
        }
        return cls(**{**values, **details})


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
