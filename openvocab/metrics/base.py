"""What the metrics of the package share: a metric says what its numbers mean and what they were measured on."""

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
