"""Confusion matrices of label maps with exact counts, and the scores that follow from them."""

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

IGNORED_BYTE = 255
EXACT_COUNTS = 2**24
"""Number of pixels that OpenCV can count exactly: its counts are float32, which holds all integers up to here."""


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Count pixels by (label, prediction).

    Args:
        labels: (H, W) integers, class indices; pixels with a label outside 0..num_classes - 1 are ignored.
        predicted: (H, W) integers, class indices.
        num_classes: K.

    Returns:
        (K, K) int64, one row per label.

    Raises:
        ValueError: a labeled pixel whose prediction is not a class.
    """
    if labels.dtype == np.uint8 and predicted.dtype == np.uint8 and num_classes <= IGNORED_BYTE:
        return _count_bytes(labels, predicted, num_classes)
    valid = (labels >= 0) & (labels < num_classes)
    labels, predicted = labels[valid].astype(np.int64), predicted[valid].astype(np.int64)
    if predicted.size and predicted.max() >= num_classes:
        _refuse(int(predicted.max()), num_classes)
    # One number per pair, since bincount counts single numbers.
    keys = labels * num_classes + predicted
    return np.bincount(keys, minlength=num_classes**2).reshape(num_classes, num_classes)


def _count_bytes(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> np.ndarray:
    """Return `confusion_matrix` of bytes: all pairs of bytes are counted, so that no pixel needs to be masked."""
    table = np.zeros((256, 256), dtype=np.int64)
    # Strips of so few pixels that no count can exceed what float32 holds exactly.
    rows = max(1, EXACT_COUNTS // max(1, labels.shape[-1]))
    for start in range(0, len(labels), rows):
        strip = [np.ascontiguousarray(part[start : start + rows]) for part in (labels, predicted)]
        table += cv2.calcHist(strip, [0, 1], None, [256, 256], [0, 256, 0, 256]).astype(np.int64)
    # the rows of ignored labels are cut off
    table = table[:num_classes]
    unknown = table[:, num_classes:].any(axis=0).nonzero()[0]
    if unknown.size:
        _refuse(num_classes + int(unknown.max()), num_classes)
    return table[:, :num_classes]


def _refuse(predicted: int, num_classes: int) -> None:
    raise ValueError(f"predicted class {predicted} is not among the {num_classes} classes of the vocabulary")


@dataclass(frozen=True)
class ClassScores:
    """Scores of each class from a confusion matrix; NaN if the denominator of a score is 0."""

    matrix: np.ndarray
    """(K, K) int64, one row per label."""

    @cached_property
    def labeled(self) -> np.ndarray:
        """(K,) number of pixels with this label."""
        return self.matrix.sum(axis=1)

    @cached_property
    def iou(self) -> np.ndarray:
        """(K,) intersection over union, 0..1."""
        correct = self.matrix.diagonal()
        return _divide(correct, self.labeled + self.matrix.sum(axis=0) - correct)

    @cached_property
    def accuracy(self) -> np.ndarray:
        """(K,) fraction of the label's pixels that are predicted correctly."""
        return _divide(self.matrix.diagonal(), self.labeled)

    @property
    def pixel_accuracy(self) -> float:
        """Fraction of all labeled pixels that are predicted correctly."""
        return float(_divide(self.matrix.trace(), self.matrix.sum()))

    def merge_foreground(self, background: int) -> "ClassScores":
        """Return the scores of two classes, (2, 2): the background (0) and all other classes merged into one (1)."""
        both = self.matrix[background, background]
        labeled, predicted = self.labeled[background], self.matrix[:, background].sum()
        # Inclusion-exclusion: pixels that are background in both were subtracted twice.
        rest = self.matrix.sum() - labeled - predicted + both
        return ClassScores(np.array([[both, labeled - both], [predicted - both, rest]]))


def mean_of_present(scores: np.ndarray) -> float:
    """Return the mean of the scores (any shape) that are not NaN, or NaN if all are."""
    present = scores[~np.isnan(scores)]
    return float(present.mean()) if present.size else float("nan")


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divide elementwise; NaN where the denominator is 0."""
    # np.where computes both branches, so the division by 0 would warn.
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(denominator > 0, numerator / denominator, np.nan)
