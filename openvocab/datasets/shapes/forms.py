"""Outlines of the six forms and the pixels that they cover."""

import math

import numpy as np

from openvocab.datasets.shapes.classes import FORMS
from openvocab.datasets.shapes.raster import polygon_coverage

REACH = 1.25
"""Maximum distance of an outline from its center, in radii."""


def cos_sin(degrees: int) -> tuple[float, float]:
    """Return cosine and sine of an integer angle, rounded so that every C library gives the same numbers."""
    radians = math.radians(degrees % 360)
    return round(math.cos(radians), 6), round(math.sin(radians), 6)


def _around(radii: list[float], start: int = 0) -> np.ndarray:
    """Return a closed polygon (P, 2) of points (x, y) at equal angles and the given distances from the center."""
    step = 360 // len(radii)
    return np.array([[r * axis for axis in cos_sin(start + step * i)] for i, r in enumerate(radii)])


def _cross(reach: float, half_width: float) -> np.ndarray:
    """Return a plus sign (12, 2) with arms of this length and half width."""
    quarter = np.array([(reach, -half_width), (reach, half_width), (half_width, half_width)])
    turn = np.array([(0, 1), (-1, 0)])
    return np.concatenate([quarter, quarter @ turn, quarter @ turn @ turn, quarter @ turn @ turn @ turn])


# The radii differ so that forms of one diameter cover similar areas. A hole has the opposite orientation.
OUTLINES: dict[str, list[np.ndarray]] = {
    "circle": [_around([1.0] * 40)],
    "square": [_around([1.2] * 4, start=45)],
    "triangle": [_around([1.25] * 3, start=270)],
    "star": [_around([1.25, 0.52] * 5, start=270)],
    "cross": [_cross(1.08, 0.36)],
    "ring": [_around([1.08] * 40), _around([0.56] * 40)[::-1]],
}
assert tuple(OUTLINES) == FORMS


def coverage_patch(
    form: str, center: tuple[float, float], diameter: float, degrees: int
) -> tuple[np.ndarray, tuple[int, int]]:
    """Return the fraction of each pixel that a form covers, in a square patch around it, and the patch's position.

    Args:
        form: one of `FORMS`.
        center: (y, x) in pixels; pixel (0, 0) spans 0 to 1.
        diameter: nominal, in pixels.
        degrees: rotation.

    Returns:
        (side, side) uint8, 255 = fully covered; and (top, left) of the patch in the image, possibly negative.
    """
    side = 2 * math.ceil(diameter / 2 * REACH) + 3
    top, left = math.floor(center[0] - side / 2), math.floor(center[1] - side / 2)
    radius, (cosine, sine) = diameter / 2, cos_sin(degrees)
    contours = []
    for outline in OUTLINES[form]:
        x, y = outline[:, 0] * radius, outline[:, 1] * radius
        turned = (x * cosine - y * sine + center[1] - left, x * sine + y * cosine + center[0] - top)
        contours.append(np.stack(turned, axis=1))  # (P, 2)
    return polygon_coverage(contours, side, side), (top, left)
