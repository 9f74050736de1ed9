"""Results as YOLO labels: a line for each object, in fractions of the image."""

from collections.abc import Iterable

import numpy as np
from torch import Tensor

from openvocab.results.outlines import Polygon, joined
from openvocab.structures import Size


def yolo_boxes(boxes: Tensor, classes: Tensor, size: Size) -> str:
    """Return lines `class x y width height` of boxes (N, 4) x1 y1 x2 y2 in pixels: center and size in 0..1."""
    height, width = size
    lines = []
    for label, (x1, y1, x2, y2) in zip(classes.tolist(), boxes.tolist()):
        parts = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
        lines.append(" ".join([str(label), *(f"{part:.6f}" for part in parts)]))
    return "".join(f"{line}\n" for line in lines)


def yolo_polygons(polygons: Iterable[tuple[int, Polygon]], size: Size) -> str:
    """Return lines `class x1 y1 x2 y2 ...` of (class, polygon); seams of no width lead to holes."""
    lines = []
    for label, polygon in polygons:
        ring = joined(polygon) / np.array([size[1], size[0]])
        lines.append(" ".join([str(label), *(f"{value:.6f}" for value in ring.ravel())]))
    return "".join(f"{line}\n" for line in lines)
