"""Precision-recall curves of classes, and a summary of them that is small enough to be shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from openvocab.vocabulary.vocabulary import Vocabulary

FEW_CURVES = 10
"""Up to this number of classes, each has a curve of its own; of more, only the best and the worst ones."""


@dataclass(frozen=True)
class CurveSummary:
    """Precision-recall curves of one evaluation: means over classes, and single classes. R recalls."""

    title: str
    """What was evaluated: "coco_box at an IoU of 0.5"."""
    recalls: list[float]
    """R recalls, 0..1."""
    means: dict[str, list[float]]
    """Mean curve over all classes ("all"), and over groups of them such as "novel"; R precisions, 0..1."""
    spread: tuple[list[float], list[float]] | None
    """Lower and upper quartile over the classes at every recall; None for few classes."""
    classes: dict[str, list[float]]
    """Curves of single classes, the best average precision first."""
    num_classes: int
    """Number of classes that have objects."""

    def to_plain(self) -> dict[str, Any]:
        """Return the content as plain values, for a checkpoint."""
        return {**vars(self), "spread": None if self.spread is None else list(self.spread)}

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> "CurveSummary":
        """Return what `to_plain` has stored."""
        spread = values["spread"]
        return cls(**{**values, "spread": None if spread is None else (list(spread[0]), list(spread[1]))})


def summarize_curves(title: str, recalls: np.ndarray, precision: np.ndarray, vocabulary: Vocabulary) -> CurveSummary:
    """Return the summary of the curves of K classes.

    Args:
        title: what was evaluated.
        recalls: (R,) 0..1.
        precision: (R, K) 0..1; NaN for classes without objects, which are left out.
        vocabulary: K classes; those with seen flags also get a mean over base and one over novel classes.
    """
    present = np.flatnonzero(~np.isnan(precision).any(axis=0))
    average = precision.mean(axis=0)
    order = present[np.argsort(-average[present], kind="stable")]
    half = FEW_CURVES // 2
    named = order if len(order) <= FEW_CURVES else np.concatenate([order[:half], order[-half:]])
    quartiles = np.quantile(precision[:, present], (0.25, 0.75), axis=1) if len(order) > FEW_CURVES else None
    return CurveSummary(
        title,
        recalls.tolist(),
        _means(precision, present, vocabulary),
        None if quartiles is None else (quartiles[0].tolist(), quartiles[1].tolist()),
        {vocabulary.class_names[index]: precision[:, index].tolist() for index in named},
        len(order),
    )


def _means(
    precision: np.ndarray, present: Sequence[int] | np.ndarray, vocabulary: Vocabulary
) -> dict[str, list[float]]:
    """Return the mean curve of each group of classes that has objects."""
    groups = {"all": list(present)}
    if vocabulary.seen is not None:
        groups["base"] = [index for index in present if vocabulary.seen[index]]
        groups["novel"] = [index for index in present if not vocabulary.seen[index]]
    return {name: precision[:, classes].mean(axis=1).tolist() for name, classes in groups.items() if classes}
