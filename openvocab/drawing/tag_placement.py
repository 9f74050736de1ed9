"""Where to write the names of many objects in one picture, so that as few as possible hide each other."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SHORTER = 0.4
"""What a shorter wording costs, in objects hidden: rather drop a score than hide half an object."""
LATER_PLACE = 0.01
"""What each step down the list of places costs: they are in the order in which readers look for a name."""
MOST_HIDDEN = 1.5
"""A tag that would hide more objects than this is left out."""


@dataclass(frozen=True)
class TagPlace:
    """A tag in a picture: the index of its wording, its left and its upper edge in pixels."""

    wording: int
    left: int
    top: int


def place_tags(
    boxes: np.ndarray, widths: Sequence[Sequence[int]], height: int, picture_size: tuple[int, int]
) -> list[TagPlace | None]:
    """Choose a wording and a place for the tag of each box, one after the other.

    No two tags overlap. Of the free places around and inside its box, a tag takes the one where it hides the least of
    all boxes: for small boxes that is beside them, for large ones mostly their upper left corner.

    Args:
        boxes: (N, 4) x1 y1 x2 y2 in pixels, the most important first.
        widths: of each box's wordings in pixels, the best first.
        height: of all tags in pixels.
        picture_size: (height, width) that tags stay within.

    Returns:
        N places; None where no wording has one.
    """
    placed = np.zeros((0, 4))
    places: list[TagPlace | None] = []
    for box, wordings in zip(boxes, widths, strict=True):
        tags = np.stack([_places(box, width, height, picture_size) for width in wordings])  # (F, P, 4)
        steps = np.arange(tags.shape[1])
        cost = _hidden(tags, boxes) + SHORTER * np.arange(len(tags))[:, None] + LATER_PLACE * steps  # (F, P)
        free = _overlap(tags, placed).sum(axis=-1) == 0
        cost = np.where(free, cost, np.inf)
        wording, place = np.unravel_index(int(cost.argmin()), cost.shape)
        if cost[wording, place] - SHORTER * wording > MOST_HIDDEN:
            places.append(None)
            continue
        chosen = tags[wording, place]
        placed = np.vstack([placed, chosen])
        places.append(TagPlace(int(wording), int(chosen[0]), int(chosen[1])))
    return places


def _places(box: np.ndarray, width: int, height: int, picture_size: tuple[int, int]) -> np.ndarray:
    """Return the places of a tag at the corners, the sides and the middle of a box, moved into the picture, (P, 4)."""
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
    room = np.maximum(0, np.array([picture_size[1] - width, picture_size[0] - height]))
    starts = np.clip(starts, 0, room)
    return np.concatenate([starts, starts + (width, height)], axis=1)


def _hidden(tags: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return how many boxes each tag hides, (F, P): the sum of the shares of their areas."""
    areas = np.maximum(1, np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))
    return (_overlap(tags, boxes) / areas).sum(axis=-1)


def _overlap(tags: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Return the areas that tags (F, P, 4) and boxes (N, 4) share, (F, P, N)."""
    low = np.maximum(tags[:, :, None, :2], boxes[:, :2])
    high = np.minimum(tags[:, :, None, 2:], boxes[:, 2:])
    return np.clip(high - low, 0, None).prod(axis=-1)
