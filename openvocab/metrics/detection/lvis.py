"""LVIS's average precision on arrays.

In a federated dataset an image says of few classes what it shows. A detection counts only where its class is labeled
in its image or verified to be absent; most of an open-vocabulary model's detections are dropped by that rule before any
overlap is computed. Reference: Gupta et al. 2019, arXiv 1908.03195; fixed AP: Dave et al. 2021, arXiv 2102.01066.
"""

import numpy as np

from openvocab.metrics.detection.class_precision import AREAS, RECALLS, THRESHOLDS, ClassPrecision, Shape
from openvocab.metrics.detection.greedy_matching import MATCHED, UNMATCHED, Pairs, box_pairs, mask_pairs, match_greedily
from openvocab.metrics.detection.tables import (
    Detections,
    DetectionTables,
    Labels,
    box_areas,
    encoded_masks,
    mask_areas,
    take_rows,
)

STRICTEST = 1 - 1e-10
"""Overlap that any threshold accepts, as in the LVIS API."""


def federated_average_precision(
    tables: DetectionTables,
    num_classes: int,
    shape: Shape = "box",
    *,
    max_per_image: int | None = 300,
    max_per_class: int | None = None,
) -> ClassPrecision:
    """Return the average precision of each class under the rules of LVIS.

    A detection of a class that is neither labeled nor verified absent in its image is ignored; one that finds nothing
    is ignored too where its class is not labeled exhaustively, or where it is outside the range of areas.

    Args:
        num_classes: K.
        max_per_image: best detections of an image, all classes together, that count; 300 is LVIS's rule.
        max_per_class: best detections of a class in the whole dataset that count. Fixed AP is `max_per_image=None,
            max_per_class=10_000`. Either limit comes before the federated filter.

    Raises:
        ValueError: a labeled crowd, of which LVIS has none.
    """
    if tables.labels.is_crowd.any():
        raise ValueError(f"{tables.labels.is_crowd.sum()} labels are crowds; federated AP knows none, leave them out")
    rows = np.arange(len(tables.detections.images))
    if max_per_image is not None:
        rows = rows[_place_in_run(tables.detections.images) < max_per_image]
    if max_per_class is not None:
        rows = _best_of_each_class(tables.detections, rows, max_per_class)
    verdict = _verdicts(tables, num_classes)
    judged = verdict[tables.detections.images[rows], tables.detections.classes[rows]]
    rows = rows[judged > 0]
    order = np.argsort(tables.detections.classes[rows], kind="stable")  # by class, image, falling score
    detections = take_rows(tables.detections, rows[order])
    lenient = judged[judged > 0][order] == _NOT_EXHAUSTIVE
    labels = take_rows(tables.labels, np.argsort(tables.labels.classes, kind="stable"))
    return _average_precision(detections, lenient, labels, tables.sizes, num_classes, shape)


_DROPPED, _JUDGED, _NOT_EXHAUSTIVE = 0, 1, 2


def _verdicts(tables: DetectionTables, num_classes: int) -> np.ndarray:
    """Return (I, K) uint8: what becomes of a detection of that class in that image."""
    verdict = np.full((len(tables.sample_ids), num_classes), _DROPPED, dtype=np.uint8)
    verdict[tables.negative[:, 0], tables.negative[:, 1]] = _JUDGED
    verdict[tables.labels.images, tables.labels.classes] = _JUDGED
    image, number = tables.not_exhaustive.T
    verdict[image, number] = np.where(verdict[image, number] == _DROPPED, _DROPPED, _NOT_EXHAUSTIVE)
    return verdict


def _best_of_each_class(detections: Detections, rows: np.ndarray, limit: int) -> np.ndarray:
    """Return the rows, ascending, that are among the best `limit` of their class."""
    classes = detections.classes[rows]
    if not rows.size or np.bincount(classes).max() <= limit:
        return rows
    order = np.lexsort((-detections.scores[rows], classes))
    return rows[np.sort(order[_place_in_run(classes[order]) < limit])]


def _place_in_run(values: np.ndarray) -> np.ndarray:
    """Return how many of the same value stand before each of `values`, which are grouped."""
    place = np.arange(len(values))
    is_new = np.r_[True, values[1:] != values[:-1]][: len(values)]
    return place - np.maximum.accumulate(np.where(is_new, place, 0))


def _average_precision(
    detections: Detections, lenient: np.ndarray, labels: Labels, sizes: np.ndarray, num_classes: int, shape: Shape
) -> ClassPrecision:
    """Match and accumulate, for rows sorted by class and image.

    Args:
        lenient: (N,) bool, detections that are ignored if they find nothing.
    """
    groups, label_groups = (rows.classes.astype(np.int64) * len(sizes) + rows.images for rows in (detections, labels))
    thresholds = np.minimum(THRESHOLDS, STRICTEST)
    pairs, areas = _pairs_and_areas(detections, groups, labels, label_groups, sizes, shape, thresholds[0])
    by_score = np.lexsort((-detections.scores, detections.classes))
    classes = detections.classes[by_score]
    values = np.empty((len(AREAS), len(thresholds), num_classes))
    for index, (low, high) in enumerate(AREAS.values()):
        ignored = (labels.areas < low) | (labels.areas > high)
        outcome = match_greedily(pairs, groups, ignored, thresholds)
        outside = lenient | (areas < low) | (areas > high)
        right = (outcome == MATCHED)[by_score]
        wrong = ((outcome == UNMATCHED) & ~outside[:, None])[by_score]
        expected = np.bincount(labels.classes[~ignored], minlength=num_classes)
        values[index] = interpolated_precision(right, wrong, classes, expected)
    return ClassPrecision(values)


def _pairs_and_areas(
    detections: Detections,
    groups: np.ndarray,
    labels: Labels,
    label_groups: np.ndarray,
    sizes: np.ndarray,
    shape: Shape,
    lowest: float,
) -> tuple[Pairs, np.ndarray]:
    """Return the pairs that can match and the area of each detection."""
    if shape == "box":
        pairs = box_pairs(detections.boxes, groups, labels.boxes, label_groups, lowest)
        return pairs, box_areas(detections.boxes)
    found, expected = encoded_masks(detections, sizes), encoded_masks(labels, sizes)
    return mask_pairs(found, groups, expected, label_groups, lowest), mask_areas(found)


def interpolated_precision(
    right: np.ndarray, wrong: np.ndarray, classes: np.ndarray, expected: np.ndarray
) -> np.ndarray:
    """Return the mean over `RECALLS` of the best precision at that recall or a higher one.

    Args:
        right: (N, T) bool, detections sorted by class, then by falling score.
        wrong: (N, T) bool; what is neither right nor wrong is ignored.
        classes: (N,) of the detections.
        expected: (K,) number of objects to find.

    Returns:
        (T, K) float64; NaN where nothing was to be found.
    """
    num_thresholds, num_classes = right.shape[1], len(expected)
    threshold, row = np.nonzero(right.T)  # in the order of (threshold, class, score)
    number = classes[row]
    run = threshold * num_classes + number
    found = _place_in_run(run) + 1
    before = np.concatenate([np.zeros((1, num_thresholds), np.int32), wrong.cumsum(0, dtype=np.int32)])
    missed = before[row, threshold] - before[np.searchsorted(classes, number), threshold]
    precision = found / (found + missed)
    # the running maximum from behind, all runs in one go: each is lifted above the runs that come after it
    lift = 2.0 * (num_thresholds * num_classes - run)
    best = np.maximum.accumulate((precision + lift)[::-1])[::-1] - lift if run.size else precision
    # the recalls that the k-th right one is the first to reach; recall 0 is reached by the first
    reached, reached_before = (np.searchsorted(RECALLS, n / expected[number], "right") for n in (found, found - 1))
    weight = reached - np.where(found == 1, 0, reached_before)
    total = np.bincount(run, best * weight, num_thresholds * num_classes).reshape(num_thresholds, num_classes)
    return np.where(expected > 0, total / len(RECALLS), np.nan)
