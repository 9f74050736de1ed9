"""Greedy matching of detections with labeled objects, as in the evaluators of COCO and LVIS, on sorted arrays.

Only detections and labels of one group, a class in an image, are matched. Both are sorted by group, and the detections
of a group by descending score. Pairs whose overlap (IoU) is below the lowest threshold cannot match and are dropped at
once, so that the memory is proportional to the matches rather than to detections times labels.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools import mask as rle

PAIRS_AT_ONCE = 2**18
UNMATCHED, MATCHED, MATCHED_IGNORED = 0, 1, 2


@dataclass(frozen=True)
class Pairs:
    """P pairs of a detection and a label of the same group that overlap enough to match."""

    detections: np.ndarray
    """(P,) int64 rows of the detections, ascending."""
    labels: np.ndarray
    """(P,) int64 rows of the labels, ascending for each detection."""
    overlaps: np.ndarray
    """(P,) float64 intersection over union."""


def box_pairs(
    boxes: np.ndarray, groups: np.ndarray, label_boxes: np.ndarray, label_groups: np.ndarray, lowest: float
) -> Pairs:
    """Return the pairs of boxes of the same group that overlap by at least `lowest`.

    Args:
        boxes, label_boxes: (N, 4) and (L, 4) x1 y1 x2 y2.
        groups, label_groups: (N,) and (L,) integers, ascending.
        lowest: least IoU.
    """
    start, stop = _label_range(groups, label_groups)
    rows = np.flatnonzero(stop > start)
    ends = np.cumsum((stop - start)[rows])
    parts = []
    for chunk in _chunks(ends):
        chunk_rows = rows[chunk]
        count = (stop - start)[chunk_rows]
        detections = np.repeat(chunk_rows, count)  # (Q,) all pairs of the chunk
        # start[row], start[row] + 1, ... for each row, without a loop over rows
        labels = np.arange(len(detections)) + np.repeat(start[chunk_rows] + count - np.cumsum(count), count)
        overlaps = _box_overlaps(boxes[detections], label_boxes[labels])
        # Dropped at once: only few of the pairs of a crowded image reach the lowest threshold.
        can_match = overlaps >= lowest
        parts.append((detections[can_match], labels[can_match], overlaps[can_match]))
    return _join(parts)


def mask_pairs(
    masks: list[dict[str, Any]],
    groups: np.ndarray,
    label_masks: list[dict[str, Any]],
    label_groups: np.ndarray,
    lowest: float,
) -> Pairs:
    """Return the pairs of masks of the same group that overlap by at least `lowest`.

    Args:
        masks, label_masks: N and L run-length encoded masks.
        groups, label_groups: (N,) and (L,) integers, ascending.
        lowest: least IoU.
    """
    start, stop = _label_range(groups, label_groups)
    parts = []
    for group in np.unique(groups[stop > start]):
        first, last = np.searchsorted(groups, [group, group + 1])
        group_labels = slice(start[first], stop[first])
        labels = label_masks[group_labels]
        # The zeros mean that no label is a crowd, whose overlap would be measured differently.
        overlaps = np.asarray(rle.iou(masks[first:last], labels, [0] * len(labels)))  # (detections, labels)
        detection, label = np.nonzero(overlaps >= lowest)
        parts.append((detection + first, label + group_labels.start, overlaps[detection, label]))
    return _join(parts)


def match_greedily(pairs: Pairs, groups: np.ndarray, ignored: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Match each detection, best score first, with the unmatched label that it overlaps most.

    A label that is not ignored is preferred to an ignored one, whatever the overlaps; of equal overlaps the later label
    is taken (as in pycocotools).

    Args:
        pairs: P candidates.
        groups: (N,) of the detections, ascending.
        ignored: (L,) bool, labels that count neither as found nor as missed.
        thresholds: (T,) least IoU of a match.

    Returns:
        (N, T) uint8: UNMATCHED, MATCHED or MATCHED_IGNORED.
    """
    outcome = np.zeros((len(groups), len(thresholds)), dtype=np.uint8)
    is_matched = np.zeros((len(ignored), len(thresholds)), dtype=bool)
    # groups are independent, so that one detection of every group is matched at once
    for turn in _turns(pairs, groups):
        labels, size = pairs.labels[turn], len(turn)
        free = (pairs.overlaps[turn, None] >= thresholds) & ~is_matched[labels]  # (Q, T)
        # a detection's pairs are sorted by overlap, so that the last one is the best; pairs whose label is not ignored
        # get a higher priority than all others
        priority = np.arange(size, dtype=np.int32) + np.where(ignored[labels], 0, size).astype(np.int32)
        priority = np.where(free, priority[:, None], -1)  # (Q, T)
        detections, first = np.unique(pairs.detections[turn], return_index=True)
        best = np.maximum.reduceat(priority, first, axis=0)  # (detections, T)
        row, threshold = np.nonzero(best >= 0)
        # Modulo `size` undoes the priority of labels that are not ignored.
        matches = labels[best[row, threshold] % size]
        is_matched[matches, threshold] = True
        outcome[detections[row], threshold] = np.where(ignored[matches], MATCHED_IGNORED, MATCHED)
    return outcome


def _turns(pairs: Pairs, groups: np.ndarray) -> Iterator[np.ndarray]:
    """Yield rows of `pairs`: those of the best detection of every group, then those of the second one, and so on.

    Each yield is sorted by detection, then by overlap, then by label.
    """
    if not pairs.detections.size:
        return
    is_new = np.r_[True, pairs.detections[1:] != pairs.detections[:-1]]
    number = np.cumsum(is_new) - 1  # (P,) number of the pair's detection, over all groups
    group = groups[pairs.detections]
    first_of_group = np.r_[True, group[1:] != group[:-1]]
    # minus the number of the first detection of the group: the rank within the group
    turn = number - np.maximum.accumulate(np.where(first_of_group, number, 0))
    order = np.lexsort((pairs.labels, pairs.overlaps, pairs.detections, turn))
    yield from np.split(order, np.searchsorted(turn[order], np.arange(1, turn.max() + 1)))


def _label_range(groups: np.ndarray, label_groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first label of each detection's group and the one after its last, (N,) each."""
    return np.searchsorted(label_groups, groups, "left"), np.searchsorted(label_groups, groups, "right")


def _chunks(ends: np.ndarray) -> Iterator[slice]:
    """Cut rows into slices of about `PAIRS_AT_ONCE` pairs, given the cumulated numbers of pairs `ends` (R,)."""
    total = int(ends[-1]) if ends.size else 0
    cuts = np.unique(np.searchsorted(ends, np.arange(PAIRS_AT_ONCE, total, PAIRS_AT_ONCE)))
    for start, stop in zip([0, *cuts.tolist()], [*cuts.tolist(), len(ends)]):
        if stop > start:
            yield slice(start, stop)


def _box_overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the IoU (P,) of boxes (P, 4) row by row; 0 for two boxes without area."""
    boxes, others = boxes.astype(np.float64), others.astype(np.float64)
    # float64 as in pycocotools: a rounded IoU could fall on the other side of a threshold
    inner = np.minimum(boxes[:, 2:], others[:, 2:]) - np.maximum(boxes[:, :2], others[:, :2])
    intersection = inner.clip(0).prod(1)
    union = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (others[:, 2:] - others[:, :2]).prod(1) - intersection
    return np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)


def _join(parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Pairs:
    """Concatenate the rows and overlaps of pairs."""
    if not parts:
        return Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    return Pairs(*(np.concatenate(column) for column in zip(*parts)))
