"""LVIS's average precision on arrays.

In a federated dataset only a few classes are annotated in each image. A detection counts only if its class is labeled
in its image or verified to be absent; most detections of an open-vocabulary model are dropped by that rule, before any
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
"""Highest threshold, so that equal boxes match despite rounding, as in the LVIS API."""


def federated_average_precision(
    tables: DetectionTables,
    num_classes: int,
    shape: Shape = "box",
    *,
    max_per_image: int | None = 300,
    max_per_class: int | None = None,
) -> ClassPrecision:
    """Return the average precision of each class by the rules of LVIS.

    A detection of a class that is neither labeled nor verified absent in its image is ignored; an unmatched one is
    ignored too if its class is not labeled exhaustively, or if it is outside the range of areas.

    Args:
        tables: tables of all images.
        num_classes: K.
        shape: "mask" needs masks in labels and detections.
        max_per_image: number of best detections per image, of all classes together, that count; LVIS: 300.
        max_per_class: number of best detections per class over the whole dataset that count. Fixed AP:
            `max_per_image=None, max_per_class=10_000`. Both limits are applied before the federated rule.

    Raises:
        ValueError: a labeled crowd, of which LVIS has none.
    """
    if tables.labels.is_crowd.any():
        raise ValueError(
            f"{tables.labels.is_crowd.sum()} labels are crowds, which federated AP does not allow; drop them"
        )
    rows = np.arange(len(tables.detections.images))
    if max_per_image is not None:
        rows = rows[_rank_in_run(tables.detections.images) < max_per_image]
    if max_per_class is not None:
        rows = _best_of_each_class(tables.detections, rows, max_per_class)
    treatment = _treatments(tables, num_classes)[tables.detections.images[rows], tables.detections.classes[rows]]
    # Only now: the limits count detections that the federated rule then drops, as in the LVIS API.
    rows = rows[treatment > 0]
    order = np.argsort(tables.detections.classes[rows], kind="stable")  # by class, image, descending score
    detections = take_rows(tables.detections, rows[order])
    not_exhaustive = treatment[treatment > 0][order] == _NOT_EXHAUSTIVE
    labels = take_rows(tables.labels, np.argsort(tables.labels.classes, kind="stable"))
    return _average_precision(detections, not_exhaustive, labels, tables.sizes, num_classes, shape)


_DROPPED, _EVALUATED, _NOT_EXHAUSTIVE = 0, 1, 2
"""Detections of a class in an image are ignored; evaluated; evaluated, but ignored if unmatched."""


def _treatments(tables: DetectionTables, num_classes: int) -> np.ndarray:
    """Return (I, K) uint8, how detections of each class are treated in each image: one of the constants above."""
    treatment = np.full((len(tables.sample_ids), num_classes), _DROPPED, dtype=np.uint8)
    treatment[tables.negative[:, 0], tables.negative[:, 1]] = _EVALUATED
    treatment[tables.labels.images, tables.labels.classes] = _EVALUATED
    image, number = tables.not_exhaustive.T
    # Not exhaustive matters only for classes that are evaluated in the image at all.
    treatment[image, number] = np.where(treatment[image, number] == _DROPPED, _DROPPED, _NOT_EXHAUSTIVE)
    return treatment


def _best_of_each_class(detections: Detections, rows: np.ndarray, limit: int) -> np.ndarray:
    """Return those of `rows` (R,), ascending, that are among the best `limit` of their class."""
    classes = detections.classes[rows]
    if not rows.size or np.bincount(classes).max() <= limit:
        return rows
    order = np.lexsort((-detections.scores[rows], classes))
    return rows[np.sort(order[_rank_in_run(classes[order]) < limit])]


def _rank_in_run(values: np.ndarray) -> np.ndarray:
    """Return how many equal values precede each of `values` (N,), in which equal ones are adjacent."""
    position = np.arange(len(values))
    is_new = np.r_[True, values[1:] != values[:-1]][: len(values)]
    return position - np.maximum.accumulate(np.where(is_new, position, 0))


def _average_precision(
    detections: Detections,
    not_exhaustive: np.ndarray,
    labels: Labels,
    sizes: np.ndarray,
    num_classes: int,
    shape: Shape,
) -> ClassPrecision:
    """Match detections and accumulate their precision, for rows sorted by class and image.

    Args:
        detections: N rows.
        not_exhaustive: (N,) bool, detections that are ignored if they are unmatched.
        labels: L rows.
        sizes: (I, 2) height and width of the images.
        num_classes: K.
        shape: what the IoU is computed of.
    """
    # int64, since classes times images may exceed int32.
    groups, label_groups = (rows.classes.astype(np.int64) * len(sizes) + rows.images for rows in (detections, labels))
    thresholds = np.minimum(THRESHOLDS, STRICTEST)
    pairs, areas = _pairs_and_areas(detections, groups, labels, label_groups, sizes, shape, thresholds[0])
    # Matching needs the order by image, precision the order by score over all images.
    by_score = np.lexsort((-detections.scores, detections.classes))
    classes = detections.classes[by_score]
    values = np.empty((len(AREAS), len(thresholds), num_classes))
    curves = np.empty((len(AREAS), len(RECALLS), num_classes))
    for index, (low, high) in enumerate(AREAS.values()):
        ignored = (labels.areas < low) | (labels.areas > high)
        outcome = match_greedily(pairs, groups, ignored, thresholds)
        # Outside the range of areas, an unmatched detection is no mistake; a matched one follows its label.
        ignored_if_unmatched = not_exhaustive | (areas < low) | (areas > high)
        true_positive = (outcome == MATCHED)[by_score]
        false_positive = ((outcome == UNMATCHED) & ~ignored_if_unmatched[:, None])[by_score]
        num_objects = np.bincount(labels.classes[~ignored], minlength=num_classes)
        values[index], curves[index] = interpolated_precision(true_positive, false_positive, classes, num_objects)
    return ClassPrecision(values, curves[list(AREAS).index("all")])


def _pairs_and_areas(
    detections: Detections,
    groups: np.ndarray,
    labels: Labels,
    label_groups: np.ndarray,
    sizes: np.ndarray,
    shape: Shape,
    lowest: float,
) -> tuple[Pairs, np.ndarray]:
    """Return the pairs that can match and the area (N,) of each detection."""
    if shape == "box":
        pairs = box_pairs(detections.boxes, groups, labels.boxes, label_groups, lowest)
        return pairs, box_areas(detections.boxes)
    masks, label_masks = encoded_masks(detections, sizes), encoded_masks(labels, sizes)
    return mask_pairs(masks, groups, label_masks, label_groups, lowest), mask_areas(masks)


def interpolated_precision(
    true_positive: np.ndarray, false_positive: np.ndarray, classes: np.ndarray, num_objects: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the highest precision at each of `RECALLS` or a higher recall: its mean, and its curve.

    Args:
        true_positive: (N, T) bool, detections sorted by class, then by descending score.
        false_positive: (N, T) bool; a detection that is neither is ignored.
        classes: (N,) of the detections.
        num_objects: (K,) number of labeled objects.

    Returns:
        The mean over the recalls, (T, K) float64, and the curve of the first threshold, (R, K) float64; NaN for
        classes without objects.
    """
    num_thresholds, num_classes = true_positive.shape[1], len(num_objects)
    # precision changes the result at true positives only: all arrays below have one entry for each of these, (M,)
    threshold, row = np.nonzero(true_positive.T)  # sorted by threshold, class, descending score
    number = classes[row]
    run = threshold * num_classes + number  # a run is one class at one threshold
    num_true = _rank_in_run(run) + 1
    # False positives before each row, over all classes; those of earlier classes are subtracted below.
    before = np.concatenate([np.zeros((1, num_thresholds), np.int32), false_positive.cumsum(0, dtype=np.int32)])
    num_false = before[row, threshold] - before[np.searchsorted(classes, number), threshold]
    precision = num_true / (num_true + num_false)
    # the running maximum from the end, of all runs at once: an offset keeps each run above those that come after it
    offset = 2.0 * (num_thresholds * num_classes - run)
    best = np.maximum.accumulate((precision + offset)[::-1])[::-1] - offset if run.size else precision
    # how many recalls each true positive is the first to reach; recall 0 is reached by the first one
    reached, reached_before = (
        np.searchsorted(RECALLS, count / num_objects[number], "right") for count in (num_true, num_true - 1)
    )
    first = np.where(num_true == 1, 0, reached_before)
    weight = reached - first
    total = np.bincount(run, best * weight, num_thresholds * num_classes).reshape(num_thresholds, num_classes)
    of_first = threshold == 0
    curve = np.zeros((len(RECALLS), num_classes))
    times = weight[of_first]
    curve[_ranges(first[of_first], times), number[of_first].repeat(times)] = best[of_first].repeat(times)
    return np.where(num_objects > 0, total / len(RECALLS), np.nan), np.where(num_objects > 0, curve, np.nan)


def _ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return start, start + 1, ... of each of N ranges (N,), one range after the other."""
    before = np.concatenate([[0], lengths.cumsum()[:-1]]) if lengths.size else lengths
    return np.arange(lengths.sum()) + (starts - before).repeat(lengths)
