"""Which classes are mistaken for which, named and small enough to be shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class ClassConfusion:
    """A confusion matrix with the names of its classes."""

    class_names: tuple[str, ...]
    """K names."""
    counts: np.ndarray
    """(K, K) int64, one row per label, one column per prediction."""
    counted: str
    """What the counts are of, in the plural: "pixels"."""

    def most_confused(self, limit: int) -> "ClassConfusion":
        """Return the confusion of at most `limit` classes, those with the most mistakes, and of all others as one.

        Classes that are neither labeled nor predicted are dropped first. The order of the classes stays.

        Args:
            limit: largest number of classes, at least 2; the merged others are one of them.
        """
        errors = self.counts.sum(0) + self.counts.sum(1) - 2 * self.counts.diagonal()
        present = np.flatnonzero(self.counts.any(0) | self.counts.any(1))
        if len(present) <= limit:
            kept, others = present, present[:0]
        else:
            order = present[np.argsort(-errors[present], kind="stable")]
            kept, others = np.sort(order[: limit - 1]), order[limit - 1 :]
        names = [self.class_names[index] for index in kept]
        if not others.size:
            return ClassConfusion(tuple(names), self.counts[np.ix_(kept, kept)], self.counted)
        group_of = np.full(len(self.class_names), len(kept))
        group_of[kept] = np.arange(len(kept))
        merged = np.zeros((len(kept) + 1, len(kept) + 1), dtype=np.int64)
        np.add.at(merged, (group_of[:, None], group_of[None, :]), self.counts)
        return ClassConfusion((*names, f"{len(others)} other classes"), merged, self.counted)

    def to_plain(self) -> dict[str, Any]:
        """Return the content as plain values, for a checkpoint."""
        return {"class_names": list(self.class_names), "counts": self.counts.tolist(), "counted": self.counted}

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> "ClassConfusion":
        """Return what `to_plain` has stored."""
        return cls(tuple(values["class_names"]), np.array(values["counts"], dtype=np.int64), values["counted"])


def label_counts(labels: Sequence[int], predictions: Sequence[int], num_classes: int) -> np.ndarray:
    """Return the confusion matrix (K, K) int64 of N labels and N predicted classes, one row per label."""
    counts = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(counts, (np.asarray(labels, dtype=np.int64), np.asarray(predictions, dtype=np.int64)), 1)
    return counts
