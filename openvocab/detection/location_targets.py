"""Which locations of a feature pyramid are trained to find an object (ATSS), and how central they are in it."""

from collections.abc import Sequence

import torch
from torch import Tensor

CANDIDATES_PER_LEVEL = 9
MARGIN = 0.01
"""Least distance in pixels of a positive location's center from every side of its box."""


@torch.no_grad()
def match_locations(
    anchors: Tensor, counts: Sequence[int], boxes: Tensor, per_level: int = CANDIDATES_PER_LEVEL
) -> Tensor:
    """Match locations with objects by adaptive training sample selection.

    The candidates of an object are the `per_level` locations of each level whose centers are nearest to its own. Those
    are positive whose anchor overlaps the object by at least the mean plus the standard deviation of all candidates'
    IoUs, and whose center is inside the object. A location that several objects claim belongs to that of the highest
    IoU. Anchors that reach outside the image are treated like others.

    Memory grows with the locations of one level times the objects: 14 MB for 16,800 locations and 200 objects.

    Args:
        anchors: (N, 4) of `location_anchors`, level after level.
        counts: locations of each level; their sum is N.
        boxes: (G, 4) of the objects of one image, inclusive corners (see `inclusive_corners`), input frame; without
            crowds (see `without_crowds`), which official training leaves out.
        per_level: candidates of an object on each level; all of a level that has fewer.

    Returns:
        (N,) int64 index of the object of each location, -1 for a negative one.

    Reference: ATSS, arXiv 1912.02424, as in official GLIP: IoUs of inclusive corners, the unbiased standard deviation.
    """
    matches = torch.full((len(anchors),), -1, device=anchors.device)
    if not len(boxes):
        return matches
    boxes = boxes.to(anchors)
    candidates = _nearest(anchors, counts, boxes, per_level)  # (c, G)
    overlap = _inclusive_iou(anchors[candidates], boxes)  # (c, G)
    # of a single candidate there is no deviation
    threshold = overlap.mean(0) + (overlap.std(0) if len(overlap) > 1 else 0)
    is_positive = (overlap >= threshold) & (_distances(anchors[candidates], boxes).amin(-1) > MARGIN)  # (c, G)
    rows, objects = candidates[is_positive], is_positive.nonzero()[:, 1]  # (p,) each: a location and who claims it
    claims = overlap[is_positive]  # (p,)
    highest = claims.new_zeros(len(anchors)).scatter_reduce(0, rows, claims, "amax")  # (N,)
    wins = claims == highest[rows]
    # of objects with equal IoUs, the first one
    first = torch.full_like(matches, len(boxes)).scatter_reduce(0, rows[wins], objects[wins], "amin")
    return first.where(first < len(boxes), matches)


def centerness(anchors: Tensor, boxes: Tensor) -> Tensor:
    """Return how central each anchor's center is in a box around it, (P,) in 0..1; 1 is the center of the box.

    Args:
        anchors: (P, 4) of positive locations.
        boxes: (P, 4) of their objects, as in `match_locations`.

    Reference: FCOS, arXiv 1904.01355, equation 3.
    """
    sides = _distances(anchors, boxes).unflatten(-1, (2, 2))  # (P, 2, 2): left, top; right, bottom
    return (sides.amin(1) / sides.amax(1)).prod(1).sqrt()


def _nearest(anchors: Tensor, counts: Sequence[int], boxes: Tensor, per_level: int) -> Tensor:
    """Return the rows (c, G) of the anchors (N, 4) of each level that are nearest to boxes (G, 4)."""
    centers, box_centers = ((part[:, :2] + part[:, 2:]) / 2 for part in (anchors, boxes))
    found, start = [], 0
    for level in centers.split(list(counts)):
        # one coordinate after the other: an array (n, G, 2) would double the memory
        distance = (level[:, :1] - box_centers[:, 0]).square_()  # (n, G)
        distance += (level[:, 1:] - box_centers[:, 1]).square_()
        nearest = distance.topk(min(per_level, len(level)), dim=0, largest=False).indices  # (<= per_level, G)
        found.append(nearest + start)
        start += len(level)
    return torch.cat(found)


def _distances(anchors: Tensor, boxes: Tensor) -> Tensor:
    """Return the distances (..., 4) of the centers of anchors (..., 4) from the left, top, right and bottom of boxes.

    They are negative outside the box.
    """
    centers = (anchors[..., :2] + anchors[..., 2:]) / 2
    return torch.cat([centers - boxes[..., :2], boxes[..., 2:] - centers], dim=-1)


def _inclusive_iou(anchors: Tensor, boxes: Tensor) -> Tensor:
    """Return the IoU (c, G) of anchors (c, G, 4) with boxes (G, 4), both with inclusive corners."""
    shared = torch.minimum(anchors[..., 2:], boxes[..., 2:]) - torch.maximum(anchors[..., :2], boxes[..., :2]) + 1
    shared_area = shared.clamp(min=0).prod(-1)  # (c, G)
    areas, box_areas = ((part[..., 2:] - part[..., :2] + 1).prod(-1) for part in (anchors, boxes))
    return shared_area / (areas + box_areas - shared_area)
