"""What a report shows of one validation."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from openvocab.metrics.base import Metric
from openvocab.metrics.class_confusion import ClassConfusion
from openvocab.metrics.class_table import merge_rows
from openvocab.metrics.precision_recall import CurveSummary

MAX_CONFUSED = 50
"""Number of classes in the picture of a confusion matrix, whose names are still readable."""


@dataclass(frozen=True)
class EvaluationRecord:
    """The details of a validation; the scores themselves are in the table of the run."""

    iteration: int
    class_rows: list[dict[str, Any]]
    """See `Metric.class_rows`."""
    confusion: ClassConfusion | None
    """At most `MAX_CONFUSED` classes."""
    curves: list[CurveSummary]

    @classmethod
    def of_metrics(cls, iteration: int, metrics: Iterable[Any]) -> "EvaluationRecord":
        """Return the record of what metrics have just evaluated; those of other packages have no details."""
        ours = [metric for metric in metrics if isinstance(metric, Metric)]
        confusions = [metric.confusion for metric in ours if metric.confusion is not None]
        return cls(
            iteration,
            merge_rows(metric.class_rows for metric in ours),
            confusions[0].most_confused(MAX_CONFUSED) if confusions else None,
            [summary for metric in ours for summary in metric.curves],
        )

    def to_plain(self) -> dict[str, Any]:
        """Return the content as plain values, for a checkpoint."""
        return {
            "iteration": self.iteration,
            "class_rows": [dict(row) for row in self.class_rows],
            "confusion": None if self.confusion is None else self.confusion.to_plain(),
            "curves": [summary.to_plain() for summary in self.curves],
        }

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> "EvaluationRecord":
        """Return what `to_plain` has stored."""
        confusion = values["confusion"]
        return cls(
            values["iteration"],
            list(values["class_rows"]),
            None if confusion is None else ClassConfusion.from_plain(confusion),
            [CurveSummary.from_plain(summary) for summary in values["curves"]],
        )
