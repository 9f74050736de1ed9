"""What the metrics of the package share: a metric says what its numbers mean and what they were measured on."""

from collections.abc import Iterable
from typing import Any

from mmengine.evaluator import BaseMetric

from openvocab.metrics.units import PERCENT
from openvocab.vocabulary.vocabulary import Vocabulary


class Metric(BaseMetric):
    """A metric whose results declare their keys and units.

    `evaluate` returns flat numbers. After it `protocol` says what they were measured on, and `class_rows` holds the
    scores of single classes, for metrics that have any: one dict per class with its name as `class`, floats in percent,
    integers that count something, and words.
    """

    default_prefix = ""
    shard_folder: str | None = ""
    """Where ranks hand files to the first one; None: the work dir of the run. "": this metric needs no such folder."""

    def __init__(self) -> None:
        super().__init__()
        self.protocol: dict[str, Any] = {}
        self.class_rows: list[dict[str, Any]] = []

    def result_keys(self, vocabulary: Vocabulary | None) -> list[str]:
        """Return the keys of the results over a vocabulary; None, an unknown one, may have all of them."""
        raise NotImplementedError

    def unit_of(self, key: str) -> str:
        """Return the unit of a result: percent, unless a metric says otherwise; "" for a bare number."""
        return PERCENT


def declared_keys(metric: Metric, vocabulary: Vocabulary | None) -> dict[str, str]:
    """Return the keys that a metric says it returns, each with its own name within the metric.

    Args:
        metric: of the package.
        vocabulary: of the data; None, an unknown one, may have all keys.

    Returns:
        {key among the results, `prefix/key` where the metric has a prefix: key}.
    """
    return {f"{metric.prefix}/{key}" if metric.prefix else key: key for key in metric.result_keys(vocabulary)}


def units_of(metrics: Iterable[BaseMetric], vocabulary: Vocabulary | None = None) -> dict[str, str]:
    """Return {key: unit} of the results of some metrics; what has no unit, or a metric that declares none, is left out.

    Args:
        metrics: those that are a `Metric` declare their units; others need not.
        vocabulary: see `declared_keys`.
    """
    declaring = [metric for metric in metrics if isinstance(metric, Metric)]
    return {
        key: metric.unit_of(own)
        for metric in declaring
        for key, own in declared_keys(metric, vocabulary).items()
        if metric.unit_of(own)
    }
