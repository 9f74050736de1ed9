"""Rasterize polygons with antialiased edges.

OpenCV's drawing changes from version to version; this module uses exact integer sums, so that the result is the same
everywhere.
"""

import numpy as np

SUBROWS = 4
SUBPIXELS = 64


def polygon_coverage(contours: list[np.ndarray], height: int, width: int) -> np.ndarray:
    """Return the fraction of each pixel that lies inside a polygon.

    Args:
        contours: closed, each (P, 2) points (x, y) in pixels, possibly outside the canvas; pixel (0, 0) spans 0 to 1. A
            hole has the opposite orientation of its outline.
        height: height of the canvas, in pixels.
        width: width of the canvas, in pixels.

    Returns:
        (height, width) uint8, 255 = fully covered; exact along rows, four samples per pixel along columns.
    """
    closed = [np.floor(np.concatenate([c, c[:1]]) * SUBPIXELS + 0.5) / SUBPIXELS for c in contours]
    start, end = np.concatenate([c[:-1] for c in closed]), np.concatenate([c[1:] for c in closed])
    rows = (np.arange(height * SUBROWS) + 0.5) / SUBROWS  # (height * 4,) y of each sampled line
    # half-open intervals, so that a line through a corner crosses one of its two edges
    row, edge = np.nonzero((rows[:, None] >= start[:, 1]) != (rows[:, None] >= end[:, 1]))
    run = end - start
    slope = run[:, 0] / np.where(run[:, 1] == 0, 1, run[:, 1])
    x = start[edge, 0] + (rows[row] - start[edge, 1]) * slope[edge]
    x = np.clip(np.floor(x * SUBPIXELS), 0, width * SUBPIXELS).astype(np.int64)
    # To the right of a crossing the winding number changes by one: partly in its own pixel, fully from the next one on.
    sign = np.where(run[edge, 1] > 0, 1, -1)
    stride = width + 2
    index, part = row // SUBROWS * stride + x // SUBPIXELS, x % SUBPIXELS
    change = np.bincount(index, sign * (SUBPIXELS - part), height * stride)
    change += np.bincount(index + 1, sign * part, height * stride)
    covered = np.abs(np.cumsum(change.reshape(height, stride), axis=1)[:, :width])  # (height, width), 256 = fully
    return np.minimum(covered, 255).astype(np.uint8)


def stroke_outline(points: np.ndarray, thickness: float) -> np.ndarray:
    """Return the contour (4 P - 4, 2) of an open line of this thickness through points (P, 2) of (x, y)."""
    run = np.diff(points, axis=0)
    normal = run[:, ::-1] * (1, -1) / np.sqrt((run * run).sum(1, keepdims=True)) * (thickness / 2)
    left = np.stack([points[:-1] + normal, points[1:] + normal], axis=1).reshape(-1, 2)
    right = np.stack([points[:-1] - normal, points[1:] - normal], axis=1).reshape(-1, 2)
    return np.concatenate([left, right[::-1]])
