"""Outlines of masks along the edges of pixels, so that filling a polygon gives the mask again, to the pixel."""

import cv2
import numpy as np

Ring = np.ndarray
"""(V, 2) int64 x y of corners, in pixels: (0, 0) is the upper left corner of the image. The first is not repeated."""
Polygon = list[Ring]
"""The outer ring of a connected region, clockwise as seen on the screen, and the rings of its holes, the other way."""


def polygons_of(mask: np.ndarray) -> list[Polygon]:
    """Return the regions of a mask, each connected through the sides of pixels, the largest first.

    Args:
        mask: (H, W) bool or numbers, not zero inside.
    """
    inside = np.ascontiguousarray(mask != 0).astype(np.uint8)
    count, labels, statistics, _ = cv2.connectedComponentsWithStats(inside, connectivity=4)
    order = sorted(range(1, count), key=lambda index: -statistics[index, cv2.CC_STAT_AREA])
    polygons = []
    for index in order:
        left, top, width, height, _ = statistics[index].tolist()
        region = labels[top : top + height, left : left + width] == index
        polygons.append([ring + (left, top) for ring in _rings(region)])
    return polygons


def joined(polygon: Polygon) -> Ring:
    """Return a polygon as one ring, for formats without holes: seams of no width lead to the holes and back."""
    ring, *holes = polygon
    for hole in holes:
        distances = np.abs(ring[:, None] - hole[None]).sum(axis=2)  # (V, W)
        at, entry = np.unravel_index(distances.argmin(), distances.shape)
        turned = np.roll(hole, -int(entry), axis=0)
        ring = np.concatenate([ring[: at + 1], turned, turned[:1], ring[at:]])
    return ring


def _rings(region: np.ndarray) -> Polygon:
    """Return the rings of one connected region (h, w) bool, the outer one first."""
    following = _edges(region)
    rings = []
    while following:
        start = next(iter(following))
        rings.append(_follow(start, following))
    # the outer ring encloses all others, so it is the one of the largest area
    return sorted(rings, key=lambda ring: -abs(_signed_area(ring)))


def _edges(region: np.ndarray) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Return {corner: the corners to which an edge with the region on its right leads}."""
    padded = np.pad(region, 1).astype(np.int8)
    following: dict[tuple[int, int], list[tuple[int, int]]] = {}
    down, right = np.diff(padded, axis=0)[:, 1:-1], np.diff(padded, axis=1)[1:-1]
    steps = (
        (down == 1, (0, 0), (1, 0)),  # above a pixel, to the right
        (down == -1, (1, 0), (0, 0)),  # below it, to the left
        (right == -1, (0, 0), (0, 1)),  # on its right, down
        (right == 1, (0, 1), (0, 0)),  # on its left, up
    )
    for is_edge, start, end in steps:
        rows, columns = np.nonzero(is_edge)
        for y, x in zip(rows.tolist(), columns.tolist()):
            following.setdefault((x + start[0], y + start[1]), []).append((x + end[0], y + end[1]))
    return following


def _follow(start: tuple[int, int], following: dict[tuple[int, int], list[tuple[int, int]]]) -> Ring:
    """Take the edges of one ring out of `following`, and return its corners."""
    ring, corner, direction = [start], start, (0, 0)
    while True:
        choices = following[corner]
        after = _left_turn(corner, direction, choices) if len(choices) > 1 else choices[0]
        choices.remove(after)
        if not choices:
            del following[corner]
        step = (after[0] - corner[0], after[1] - corner[1])
        if step == direction:
            ring.pop()  # straight on: the last point is no corner
        ring.append(after)
        corner, direction = after, step
        if corner == start:
            break
    ring.pop()
    first = (ring[1][0] - ring[0][0], ring[1][1] - ring[0][1])
    if (np.sign(first) == direction).all():
        ring = ring[1:]
    return np.array(ring, dtype=np.int64)


def _left_turn(corner: tuple[int, int], direction: tuple[int, int], choices: list[tuple[int, int]]) -> tuple[int, int]:
    """Return where a ring goes on at a corner where two pixels touch: to the other pixel.

    It thus passes no corner twice, since a connected region parts the two sides of that corner: a hole that touches
    another one, or the outline, stays a ring of its own, as geometry programs require of valid polygons.
    """
    turned = (corner[0] + direction[1], corner[1] - direction[0])  # counterclockwise, since y points down
    return turned if turned in choices else choices[0]


def _signed_area(ring: Ring) -> float:
    """Return the area of a ring, positive if it is clockwise on the screen."""
    x, y = ring[:, 0].astype(float), ring[:, 1].astype(float)
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)
