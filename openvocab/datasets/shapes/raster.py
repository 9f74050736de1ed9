"""Polygons to pixels with smooth edges.

OpenCV's drawing gives other pixels from version to version; here are only exact integer sums, so the result is the
same everywhere.
"""

import numpy as np

SUBROWS = 4
SUBPIXELS = 64


def polygon_coverage(contours: list[np.ndarray], height: int, width: int) -> np.ndarray:
    """Return how much of each pixel lies inside a polygon.

    Args:
        contours: Closed, (P, 2) points (x, y) in pixels each, also outside the canvas; pixel (0, 0) spans 0 to 1. A
            hole runs the other way round than its outline.
        height: Of the canvas.
        width: Of the canvas.

    Returns:
        (height, width) uint8, 255 = covered in full; exact along rows, four samples down a column.
    """
    closed = [np.floor(np.concatenate([c, c[:1]]) * SUBPIXELS + 0.5) / SUBPIXELS for c in contours]
    start, end = np.concatenate([c[:-1] for c in closed]), np.concatenate([c[1:] for c in closed])
    rows = (np.arange(height * SUBROWS) + 0.5) / SUBROWS
    row, edge = np.nonzero((rows[:, None] >= start[:, 1]) != (rows[:, None] >= end[:, 1]))
    run = end - start
    slope = run[:, 0] / np.where(run[:, 1] == 0, 1, run[:, 1])
    x = start[edge, 0] + (rows[row] - start[edge, 1]) * slope[edge]
    x = np.clip(np.floor(x * SUBPIXELS), 0, width * SUBPIXELS).astype(np.int64)
    # Right of a crossing the winding number changes by one: in part in its own pixel, in full from the next one on.
    sign = np.where(run[edge, 1] > 0, 1, -1)
    stride = width + 2
    place, part = row // SUBROWS * stride + x // SUBPIXELS, x % SUBPIXELS
    change = np.bincount(place, sign * (SUBPIXELS - part), height * stride)
    change += np.bincount(place + 1, sign * part, height * stride)
    covered = np.abs(np.cumsum(change.reshape(height, stride), axis=1)[:, :width])  # 256 = in full
    return np.minimum(covered, 255).astype(np.uint8)


def stroke_outline(points: np.ndarray, thickness: float) -> np.ndarray:
    """Return the contour of an open line of this thickness through points (P, 2) of (x, y)."""
    run = np.diff(points, axis=0)
    normal = run[:, ::-1] * (1, -1) / np.sqrt((run * run).sum(1, keepdims=True)) * (thickness / 2)
    left = np.stack([points[:-1] + normal, points[1:] + normal], axis=1).reshape(-1, 2)
    right = np.stack([points[:-1] - normal, points[1:] - normal], axis=1).reshape(-1, 2)
    return np.concatenate([left, right[::-1]])
