"""The shapes that labeling tools draw, as outlines: flat lists x1, y1, x2, y2, ... of corners in pixels."""

import math
from collections.abc import Sequence

from openvocab.datasets.annotations.packed_masks import MAX_OUTLINE, outline_length

CIRCLE_CORNERS = 64
Outline = list[float]


def rectangle(x1: float, y1: float, x2: float, y2: float, degrees: float = 0.0) -> Outline:
    """Return the corners of a rectangle, given by two opposite ones, turned clockwise around its center."""
    return turned([x1, y1, x2, y1, x2, y2, x1, y2], ((x1 + x2) / 2, (y1 + y2) / 2), degrees)


def ellipse(x: float, y: float, radius_x: float, radius_y: float, degrees: float = 0.0) -> Outline:
    """Return `CIRCLE_CORNERS` points of an ellipse around (x, y), turned clockwise."""
    angles = [2 * math.pi * index / CIRCLE_CORNERS for index in range(CIRCLE_CORNERS)]
    points = [value for angle in angles for value in (x + radius_x * math.cos(angle), y + radius_y * math.sin(angle))]
    return turned(points, (x, y), degrees)


def turned(outline: Sequence[float], center: tuple[float, float], degrees: float) -> Outline:
    """Return an outline turned clockwise, as seen in an image, whose y axis points down."""
    if not degrees:
        return list(outline)
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x0, y0 = center
    corners = zip(outline[::2], outline[1::2])
    return [
        value
        for x, y in corners
        for value in (x0 + cosine * (x - x0) - sine * (y - y0), y0 + sine * (x - x0) + cosine * (y - y0))
    ]


def check_outline(outline: Sequence[float]) -> None:
    """Check that an outline can be drawn.

    Raises:
        ValueError: a coordinate that is not finite, or an outline that is so long that drawing it takes all memory.
    """
    if not all(map(math.isfinite, outline)):
        raise ValueError("a coordinate that is not finite")
    if outline_length(outline) > MAX_OUTLINE:
        raise ValueError(f"an outline of more than {MAX_OUTLINE} pixels")


def box_around(outlines: Sequence[Sequence[float]]) -> list[float]:
    """Return the box x1 y1 x2 y2 around outlines, of which there is at least one."""
    xs = [x for outline in outlines for x in outline[::2]]
    ys = [y for outline in outlines for y in outline[1::2]]
    return [min(xs), min(ys), max(xs), max(ys)]
