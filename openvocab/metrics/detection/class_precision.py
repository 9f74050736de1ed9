"""Average precision of each class, and its reported means."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from openvocab.metrics.confusion import mean_of_present

Shape = Literal["box", "mask"]
"""What the IoU is computed of."""
THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""(T,) least IoU of a match."""
RECALLS = np.linspace(0, 1, 101)
"""(R,) recalls at which precision is sampled."""
AREAS = {"all": (0, 1e10), "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}
"""Ranges of areas in square pixels, both ends included."""
MEANS = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
"""Keys of `ClassPrecision.six_means`."""


@dataclass(frozen=True)
class ClassPrecision:
    """Average precision of each class, 0..1."""

    values: np.ndarray
    """(A, T, K), areas in the order of `AREAS`; NaN if a class has no object in that range of areas."""
    curves: np.ndarray
    """(R, K) precision at `RECALLS` at the first threshold, an IoU of 0.5, over all areas; NaN as above."""

    def mean(self, area: str = "all", threshold: float | None = None, classes: np.ndarray | None = None) -> float:
        """Return the mean over the classes that have objects; NaN if none has.

        Args:
            area: a key of `AREAS`.
            threshold: one of `THRESHOLDS`; default: the mean over all of them.
            classes: (K,) bool, which classes; default: all.
        """
        values = self.values[list(AREAS).index(area)]
        if threshold is not None:
            # Thresholds from linspace are not exact: 0.75 may differ in its last bit.
            values = values[np.isclose(THRESHOLDS, threshold)]
        return mean_of_present(values if classes is None else values[:, classes])

    def of_classes(self, threshold: float | None = None) -> np.ndarray:
        """Return the average precision (K,) of each class over all areas; NaN for a class without objects.

        Args:
            threshold: one of `THRESHOLDS`; default: the mean over all of them.
        """
        values = self.values[list(AREAS).index("all")]  # (T, K)
        return values.mean(axis=0) if threshold is None else values[np.isclose(THRESHOLDS, threshold)][0]

    def six_means(self) -> dict[str, float]:
        """Return AP, AP50, AP75, AP_small, AP_medium and AP_large."""
        means = {"AP": self.mean(), "AP50": self.mean(threshold=0.5), "AP75": self.mean(threshold=0.75)}
        return means | {f"AP_{area}": self.mean(area) for area in ("small", "medium", "large")}
