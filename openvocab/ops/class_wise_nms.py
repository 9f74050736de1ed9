"""Non-maximum suppression within each class, for boxes that all classes share.

    rows = [torchvision.ops.nms(boxes, scores[:, k], iou_threshold) for k in range(K)]  # the best of all are kept

without visiting most of the N * K candidates.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

FIRST_GROUP = 20
"""Size of the first group of candidates, as a multiple of `max_detections`."""
GROWTH = 4
"""Factor from the size of one group of candidates to the next."""


def class_wise_nms(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    max_detections: int,
    min_score: float = 0.0,
    *,
    inclusive: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the best detections after greedy suppression among the boxes of each class.

    Every box is a candidate of every class. The result is that of `torchvision.ops.nms` on all candidates of each
    class, merged and cut to the best: a box is suppressed only by better ones, so that visiting the candidates from the
    best on until enough are kept is exact, and most are never visited. Among equal scores the lower row comes first,
    then the lower class, on every device; the suppression itself runs on the CPU.

    Args:
        boxes: (N, 4) x1 y1 x2 y2 in pixels, finite. One without area suppresses nothing and is suppressed by nothing.
        scores: (N, K).
        iou_threshold: IoU in 0..1; a box is suppressed if its IoU with a better one of its class is above.
        max_detections: upper limit of M.
        min_score: only candidates above it count.
        inclusive: x2 and y2 are the last column and row of a box, so that its width is x2 - x1 + 1.

    Returns:
        Rows of `boxes` (M,) int64, classes (M,) int64 and scores (M,), best first.

    Raises:
        ValueError: shapes that disagree, NaN scores, boxes that are not finite, or a setting out of range.
    """
    _check(boxes, scores, iou_threshold, max_detections)
    num_classes = scores.shape[1]
    flat = scores.detach().flatten()  # (N * K,), row by row
    # on the CPU: greedy suppression is sequential, and few candidates are visited
    corners = boxes.detach().cpu().numpy()
    overlapping: dict[int, np.ndarray] = {}
    suppressed = np.zeros(len(flat), dtype=bool)
    detections: list[int] = []
    for candidate in _best_first(flat, min_score, FIRST_GROUP * max_detections):
        if suppressed[candidate]:
            continue
        detections.append(candidate)
        if len(detections) == max_detections:
            break
        row, label = divmod(candidate, num_classes)
        # the boxes are the same for all classes: one computation of IoUs serves every class of the row
        if row not in overlapping:
            overlapping[row] = _overlapping(corners, row, iou_threshold, inclusive)
        suppressed[overlapping[row] * num_classes + label] = True
    index = torch.tensor(detections, dtype=torch.int64, device=scores.device)
    return index // max(num_classes, 1), index % max(num_classes, 1), scores.flatten()[index]


def _best_first(scores: Tensor, min_score: float, count: int) -> Iterator[int]:
    """Yield the indices of scores (n,) above `min_score`, best first; equal scores keep their order.

    The range of scores is sorted slice by slice; the first slice has about `count` candidates.
    """
    upper = float("inf")
    while upper > min_score:
        # slices of scores are disjoint, so that their order is that of a full sort
        lower = _score_of_rank(scores, count)
        candidates = (scores > min_score) & (scores >= lower) & (scores < upper)
        index = candidates.nonzero()[:, 0]
        yield from index[scores[index].sort(descending=True, stable=True).indices].tolist()
        upper, count = lower, GROWTH * count


def _score_of_rank(scores: Tensor, count: int) -> float:
    """Return a score that at least `count` of scores (n,) reach, and not many more; -inf if n is not above `count`.

    Only the maximum of each group is ranked, in a thirtieth of the time for a million scores.
    """
    if count >= len(scores):
        return -float("inf")
    group = max(1, len(scores) // (4 * count))
    best = scores[: len(scores) // group * group].view(group, -1).amax(0)  # (n // group,)
    # `count` groups have a maximum of at least this, hence at least as many scores do
    return best.topk(count, sorted=False).values.min().item()


def _overlapping(boxes: np.ndarray, row: int, iou_threshold: float, inclusive: bool) -> np.ndarray:
    """Return the rows of boxes (N, 4) whose IoU with that of `row` is above the threshold.

    The order of operations is that of `torchvision.ops.nms`, so that the roundings are too.
    """
    x1, y1, x2, y2 = boxes.T
    if inclusive:
        x2, y2 = x2 + 1, y2 + 1
    areas = (x2 - x1) * (y2 - y1)  # (N,)
    width = np.maximum(np.minimum(x2, x2[row]) - np.maximum(x1, x1[row]), 0)
    height = np.maximum(np.minimum(y2, y2[row]) - np.maximum(y1, y1[row]), 0)
    shared = width * height
    with np.errstate(divide="ignore", invalid="ignore"):
        iou = shared / (areas[row] + areas - shared)
    return np.flatnonzero(iou > np.float64(iou_threshold))  # NumPy would round a Python float to float32


def _check(boxes: Tensor, scores: Tensor, iou_threshold: float, max_detections: int) -> None:
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes: expected (N, 4), got {tuple(boxes.shape)}")
    if scores.ndim != 2 or len(scores) != len(boxes):
        raise ValueError(f"scores: expected ({len(boxes)}, K), got {tuple(scores.shape)}")
    if not 0 <= iou_threshold <= 1:
        raise ValueError(f"iou_threshold: expected 0..1, got {iou_threshold}")
    if max_detections < 1:
        raise ValueError(f"max_detections: expected at least 1, got {max_detections}")
    if not boxes.isfinite().all():
        raise ValueError("boxes: expected finite coordinates, got NaN or infinite ones")
    if scores.numel() and scores.max().isnan():
        raise ValueError("scores: expected numbers, got NaN")
