"""Units of the numbers of metrics, wherever they are logged, printed or written."""

import math
from collections.abc import Mapping

PERCENT = "%"
"""Unit of numbers in 0..100."""


def with_unit(value: float, unit: str = "") -> str:
    """Return a number as text: "33.14 %" with a unit, "0.3314" or "12" without; NaN never has one."""
    if unit and not math.isnan(value):
        return f"{value:.2f} {unit}"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def with_units(numbers: Mapping[str, float], units: Mapping[str, str]) -> str:
    """Return one line per number, "mIoU: 33.14 %"."""
    return "\n".join(f"{name}: {with_unit(value, units.get(name, ''))}" for name, value in numbers.items())
