"""Positions of the tags of many objects in one picture, such that they hide as little as possible."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SHORTER = 0.4
"""Cost of each shorter wording, in hidden objects: it is better to drop a score than to hide half an object."""
LATER_POSITION = 0.01
"""Cost of each step down the list of positions, which are in the order in which readers look for a name."""
MOST_HIDDEN = 1.5
"""A tag that would hide more objects than this is not drawn."""


@dataclass(frozen=True)
class PlacedTag:
    """A tag in a picture: the index of its wording, and its left and upper edge in pixels."""

    wording: int
    left: int
    top: int


def place_tags(
    boxes: np.ndarray, widths: Sequence[Sequence[int]], height: int, picture_size: tuple[int, int]
) -> list[PlacedTag | None]:
    """Choose a wording and a position for the tag of each box, one box after the other.

    No two tags overlap. Of the free positions around and inside its box, a tag takes the one where it hides the least
    of all boxes: next to small boxes, and mostly in the upper left corner of large ones.

    Args:
        boxes: (N, 4) x1 y1 x2 y2 in pixels, the most important first.
        widths: widths of each box's wordings in pixels, the preferred wording first.
        height: height of all tags in pixels.
        picture_size: (height, width); tags stay inside.

    Returns:
        N tags; None for a box whose wordings all have no position.
    """
    taken = np.zeros((0, 4))
    placed: list[PlacedTag | None] = []
    for box, wordings in zip(boxes, widths, strict=True):
        tags = np.stack([_positions(box, width, height, picture_size) for width in wordings])  # (F, P, 4)
        steps = np.arange(tags.shape[1])
        cost = _hidden(tags, boxes) + SHORTER * np.arange(len(tags))[:, None] + LATER_POSITION * steps  # (F, P)
        free = _overlap(tags, taken).sum(axis=-1) == 0
        cost = np.where(free, cost, np.inf)
        wording, position = np.unravel_index(int(cost.argmin()), cost.shape)
        # the cost of a shorter wording does not count as hiding; a taken position costs infinity
        if cost[wording, position] - SHORTER * wording > MOST_HIDDEN:
            placed.append(None)
            continue
        corners = tags[wording, position]
        taken = np.vstack([taken, corners])
        placed.append(PlacedTag(int(wording), int(corners[0]), int(corners[1])))
    return placed


def _positions(box: np.ndarray, width: int, height: int, picture_size: tuple[int, int]) -> np.ndarray:
    """Return tags (P, 4) at the corners, the sides and the center of a box (4,), moved into the picture."""
    left, top, right, bottom = box
    corners = [
        (left, top - height),
        (left, top),
        (left, bottom),
        (left, bottom - height),
        (right - width, top - height),
        (right - width, top),
        (right - width, bottom),
        (right - width, bottom - height),
        (right, top),
        (left - width, top),
        (right, bottom - height),
        (left - width, bottom - height),
        ((left + right - width) / 2, (top + bottom - height) / 2),
    ]
    starts = np.round(corners)  # (P, 2)
    # A tag that is wider than the picture starts at its left edge.
    room = np.maximum(0, np.array([picture_size[1] - width, picture_size[0] - height]))
    starts = np.clip(starts, 0, room)
    return np.concatenate([starts, starts + (width, height)], axis=1)


def _hidden(tags: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return how many of boxes (N, 4) each of tags (F, P, 4) hides, (F, P): the sum of fractions of their areas."""
    # At least one square pixel, so that a box without area cannot count infinitely.
    areas = np.maximum(1, np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))
    return (_overlap(tags, boxes) / areas).sum(axis=-1)


def _overlap(tags: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the areas of the intersections of tags (F, P, 4) with boxes (N, 4), (F, P, N)."""
    low = np.maximum(tags[:, :, None, :2], boxes[:, :2])  # (F, P, N, 2)
    high = np.minimum(tags[:, :, None, 2:], boxes[:, 2:])
    return np.clip(high - low, 0, None).prod(axis=-1)
