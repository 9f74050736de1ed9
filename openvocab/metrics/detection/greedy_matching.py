"""Which detection finds which labeled object, as in COCO's and LVIS's evaluators, on sorted arrays.

A group is what is matched together: one class in one image. Detections and labels are sorted by group, the detections
of a group by falling score. Overlaps below the lowest threshold can match nothing and are dropped at once, so that
memory follows the objects found rather than detections times labels.
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
    """Detections and labels of one group that overlap enough to match."""

    detections: np.ndarray
    """(P,) int64 rows, ascending."""
    labels: np.ndarray
    """(P,) int64 rows, ascending for each detection."""
    overlaps: np.ndarray
    """(P,) float64 intersection over union."""


def box_pairs(
    boxes: np.ndarray, groups: np.ndarray, label_boxes: np.ndarray, label_groups: np.ndarray, lowest: float
) -> Pairs:
    """Pair boxes x1 y1 x2 y2, (N, 4) and (L, 4), of equal groups (N,) and (L,) that overlap by at least `lowest`."""
    start, stop = _label_range(groups, label_groups)
    rows = np.flatnonzero(stop > start)
    ends = np.cumsum((stop - start)[rows])
    found = []
    for part in _chunks(ends):
        own = rows[part]
        count = (stop - start)[own]
        detections = np.repeat(own, count)
        labels = np.arange(len(detections)) + np.repeat(start[own] + count - np.cumsum(count), count)
        overlaps = _box_overlaps(boxes[detections], label_boxes[labels])
        kept = overlaps >= lowest
        found.append((detections[kept], labels[kept], overlaps[kept]))
    return _join(found)


def mask_pairs(
    masks: list[dict[str, Any]],
    groups: np.ndarray,
    label_masks: list[dict[str, Any]],
    label_groups: np.ndarray,
    lowest: float,
) -> Pairs:
    """Pair run-length encoded masks of equal groups (N,) and (L,) that overlap by at least `lowest`."""
    start, stop = _label_range(groups, label_groups)
    found = []
    for group in np.unique(groups[stop > start]):
        first, last = np.searchsorted(groups, [group, group + 1])
        ours = slice(start[first], stop[first])
        labels = label_masks[ours]
        overlaps = np.asarray(rle.iou(masks[first:last], labels, [0] * len(labels)))  # (detections, labels)
        detection, label = np.nonzero(overlaps >= lowest)
        found.append((detection + first, label + ours.start, overlaps[detection, label]))
    return _join(found)


def match_greedily(pairs: Pairs, groups: np.ndarray, ignored: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Let each detection, best score first, take the label that it overlaps most among those still free.

    A label that counts goes before one that is ignored, whatever the overlaps; of equal overlaps the later label wins
    (as in pycocotools).

    Args:
        groups: (N,) of the detections.
        ignored: (L,) bool, labels that neither count as found nor as missed.
        thresholds: (T,) lowest overlaps of a match.

    Returns:
        (N, T) uint8: UNMATCHED, MATCHED or MATCHED_IGNORED.
    """
    outcome = np.zeros((len(groups), len(thresholds)), dtype=np.uint8)
    taken = np.zeros((len(ignored), len(thresholds)), dtype=bool)
    for turn in _turns(pairs, groups):
        labels, size = pairs.labels[turn], len(turn)
        free = (pairs.overlaps[turn, None] >= thresholds) & ~taken[labels]  # (P, T)
        # the last of a detection's pairs is the best one; those that count are lifted above all that are ignored
        place = np.arange(size, dtype=np.int32) + np.where(ignored[labels], 0, size).astype(np.int32)
        place = np.where(free, place[:, None], -1)
        detections, first = np.unique(pairs.detections[turn], return_index=True)
        best = np.maximum.reduceat(place, first, axis=0)
        row, threshold = np.nonzero(best >= 0)
        chosen = labels[best[row, threshold] % size]
        taken[chosen, threshold] = True
        outcome[detections[row], threshold] = np.where(ignored[chosen], MATCHED_IGNORED, MATCHED)
    return outcome


def _turns(pairs: Pairs, groups: np.ndarray) -> Iterator[np.ndarray]:
    """Yield rows of `pairs`: first those of every group's best detection, then of the second, and so on.

    Within a turn they are sorted by detection, then by overlap, then by label.
    """
    if not pairs.detections.size:
        return
    is_new = np.r_[True, pairs.detections[1:] != pairs.detections[:-1]]
    number = np.cumsum(is_new) - 1  # of its detection
    group = groups[pairs.detections]
    first_of_group = np.r_[True, group[1:] != group[:-1]]
    turn = number - np.maximum.accumulate(np.where(first_of_group, number, 0))
    order = np.lexsort((pairs.labels, pairs.overlaps, pairs.detections, turn))
    yield from np.split(order, np.searchsorted(turn[order], np.arange(1, turn.max() + 1)))


def _label_range(groups: np.ndarray, label_groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where the labels of each detection's group start and stop."""
    return np.searchsorted(label_groups, groups, "left"), np.searchsorted(label_groups, groups, "right")


def _chunks(ends: np.ndarray) -> Iterator[slice]:
    """Cut rows with these cumulated numbers of pairs into slices of about `PAIRS_AT_ONCE` pairs."""
    total = int(ends[-1]) if ends.size else 0
    cuts = np.unique(np.searchsorted(ends, np.arange(PAIRS_AT_ONCE, total, PAIRS_AT_ONCE)))
    for start, stop in zip([0, *cuts.tolist()], [*cuts.tolist(), len(ends)]):
        if stop > start:
            yield slice(start, stop)


def _box_overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the intersection over union of boxes row by row, (P, 4) each; 0 for two boxes without area."""
    boxes, others = boxes.astype(np.float64), others.astype(np.float64)
    inner = np.minimum(boxes[:, 2:], others[:, 2:]) - np.maximum(boxes[:, :2], others[:, :2])
    intersection = inner.clip(0).prod(1)
    union = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (others[:, 2:] - others[:, :2]).prod(1) - intersection
    return np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)


def _join(found: list[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> Pairs:
    if not found:
        return Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    return Pairs(*(np.concatenate(column) for column in zip(*found)))
