"""What the numbers of metrics mean: their units, wherever they are shown or written."""

import math
from collections.abc import Iterable, Mapping

from mmengine.evaluator import BaseMetric

from openvocab.vocabulary.vocabulary import Vocabulary

PERCENT = "%"
"""Of numbers in 0..100."""


def declared_keys(metric: BaseMetric, vocabulary: Vocabulary | None) -> dict[str, str]:
    """Return the keys that a metric says it returns, each with its own name within the metric.

    Args:
        metric: with `result_keys`, as all metrics of the package.
        vocabulary: of the data; None, an unknown one, may have all keys.

    Returns:
        {key among the results, `prefix/key` where the metric has a prefix: key}.
    """
    return {f"{metric.prefix}/{key}" if metric.prefix else key: key for key in metric.result_keys(vocabulary)}


def units_of(metrics: Iterable[BaseMetric], vocabulary: Vocabulary | None = None) -> dict[str, str]:
    """Return {key: unit} of the results of some metrics; what has no unit, or a metric that declares none, is left out.

    Args:
        metrics: those of the package declare their units, by `result_keys` and `unit_of`; others need not.
        vocabulary: see `declared_keys`.
    """
    declaring = [metric for metric in metrics if hasattr(metric, "unit_of") and hasattr(metric, "result_keys")]
    return {
        key: metric.unit_of(own)
        for metric in declaring
        for key, own in declared_keys(metric, vocabulary).items()
        if metric.unit_of(own)
    }


def with_unit(value: float, unit: str = "") -> str:
    """Return a number as it is shown: "33.14 %", and "0.3314" or "12" without a unit; "nan" has none."""
    if unit and not math.isnan(value):
        return f"{value:.2f} {unit}"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def with_units(numbers: Mapping[str, float], units: Mapping[str, str]) -> str:
    """Return one line for each number, "mIoU: 33.14 %"."""
    return "\n".join(f"{name}: {with_unit(value, units.get(name, ''))}" for name, value in numbers.items())
