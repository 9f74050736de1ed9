"""The base class of all metrics: they declare their keys and units, and describe what was measured."""

from collections.abc import Iterable
from typing import Any

from mmengine.evaluator import BaseMetric

from openvocab.metrics.class_confusion import ClassConfusion
from openvocab.metrics.precision_recall import CurveSummary
from openvocab.metrics.units import PERCENT
from openvocab.vocabulary.vocabulary import Vocabulary


class Metric(BaseMetric):
    """A metric whose results declare their keys and units.

    `evaluate` returns flat numbers. Then `protocol` describes the data that they were measured on, and `class_rows`
    holds the scores of single classes, if the metric has any: one dict per class with its name as `class`, floats in
    percent, integers that count something, and words. On the main rank, `confusion` and `curves` hold what pictures of
    the evaluation show, if the metric counts that.
    """

    default_prefix = ""
    shard_folder: str | None = ""
    """Folder in which ranks hand files to the first one. None: the work dir of the run; "": the metric needs none."""

    def __init__(self) -> None:
        super().__init__()
        self.protocol: dict[str, Any] = {}
        self.class_rows: list[dict[str, Any]] = []
        self.confusion: ClassConfusion | None = None
        self.curves: list[CurveSummary] = []

    def result_keys(self, vocabulary: Vocabulary | None) -> list[str]:
        """Return the keys of the results over a vocabulary, or all possible keys for None, an unknown vocabulary."""
        raise NotImplementedError

    def unit_of(self, key: str) -> str:
        """Return the unit of a result: percent, unless a metric says otherwise; "" for a bare number."""
        return PERCENT


def declared_keys(metric: Metric, vocabulary: Vocabulary | None) -> dict[str, str]:
    """Return the keys that a metric declares, with and without its prefix.

    Args:
        metric: a metric of the package.
        vocabulary: vocabulary of the data; if it is None (unknown), all possible keys are returned.

    Returns:
        {key among the results, which is `prefix/key` for a metric with a prefix: key}.
    """
    return {f"{metric.prefix}/{key}" if metric.prefix else key: key for key in metric.result_keys(vocabulary)}


def units_of(metrics: Iterable[BaseMetric], vocabulary: Vocabulary | None = None) -> dict[str, str]:
    """Return {key: unit} of the results of several metrics that have a unit.

    Args:
        metrics: those that are no `Metric` declare no units and are skipped.
        vocabulary: see `declared_keys`.
    """
    declaring = [metric for metric in metrics if isinstance(metric, Metric)]
    return {
        key: metric.unit_of(bare_key)
        for metric in declaring
        for key, bare_key in declared_keys(metric, vocabulary).items()
        if metric.unit_of(bare_key)
    }
