"""What the numbers of a long YOLO line are: the corners of a polygon, or a box that other columns follow."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

MAX_BEYOND = 0.1
"""How far polygons and boxes may reach beyond the image, as a share of it."""
ROUNDING = 0.01
"""As a share of the image."""
SHARE_OF_BOXES = 0.75
"""Of lines whose first numbers can be a box: nearly all where they are one, about half where they are corners."""
SHARE_OF_KEYPOINTS = 0.5
"""Of lines of one length whose numbers can be a box and keypoints in it; only of small polygons it is a little more."""
SHARE_OF_NO_POLYGONS = 0.1
"""Of lines that can hardly be a polygon: of polygons in COCO fewer than 0.01 of them."""


@dataclass
class _Count:
    """Lines of one length."""

    lines: int = 0
    boxes: int = 0
    """Whose first four numbers can be a box."""
    keypoints: int = 0
    """Of `boxes`, those whose other numbers can be keypoints in it."""
    no_polygons: int = 0
    """Of `keypoints`, those whose corners would lie too far apart."""


@dataclass
class LongLines:
    """What the lines of all files that are longer than a class and a box have in common."""

    first: str = ""
    """File and line."""
    by_length: dict[int, _Count] = field(default_factory=lambda: defaultdict(_Count))

    def add(self, values: Sequence[float], place: str) -> None:
        """Note the values of a line, class apart."""
        self.first = self.first or place
        count = self.by_length[len(values)]
        is_box, has_keypoints, is_no_polygon = _readings(values)
        count.lines += 1
        count.boxes += is_box
        count.keypoints += has_keypoints
        count.no_polygons += is_no_polygon

    def check_polygons(self) -> None:
        """Check that they are polygons, not boxes that other columns follow.

        Polygons differ in their number of corners, and read as boxes many reach out of the image. Keypoints lie in
        their box, and read as the second corner of a polygon its width and height mostly lie far from all others.

        Raises:
            ValueError: one or two lengths of which nearly all can be boxes, or lines that can hardly be polygons.
        """
        counts = list(self.by_length.values())
        total = sum(count.lines for count in counts)
        alike = sum(count.boxes if len(counts) == 1 else count.keypoints for count in counts)
        no_polygons = sum(count.no_polygons for count in counts)
        odd = no_polygons > SHARE_OF_NO_POLYGONS * total or any(
            count.no_polygons > max(2, SHARE_OF_NO_POLYGONS * count.lines)
            and count.keypoints > SHARE_OF_KEYPOINTS * count.lines
            for count in counts
        )
        if odd or (len(counts) <= 2 and alike > SHARE_OF_BOXES * total):
            fields = " or ".join(str(length + 1) for length in sorted(self.by_length)[:4])
            raise ValueError(
                f"{self.first}: {fields} fields can be a polygon, or a box that keypoints or a tracker's columns follow"
                f" ({no_polygons if odd else alike} of {total} such lines): with_masks=True takes them for polygons,"
                " kpt_shape in the data.yaml (given as classes) for boxes with keypoints; cut off other columns"
            )


def _readings(values: Sequence[float]) -> tuple[bool, bool, bool]:
    """Say whether a line can be a box, one with keypoints in it, and can hardly be a polygon."""
    corners = np.reshape(values, (-1, 2))
    center, sides = corners[:2]
    if not ((sides > 0) & (center - sides / 2 >= -MAX_BEYOND) & (center + sides / 2 <= 1 + MAX_BEYOND)).all():
        return False, False, False
    if len(corners) == 4 and (np.abs(corners[0] + corners[2] - corners[1] - corners[3]) < ROUNDING).all():
        return False, False, False  # a parallelogram, which is none by chance
    inside = [
        points for points in _keypoint_forms(values) if (np.abs(points - center) <= sides / 2 * 1.1 + ROUNDING).all()
    ]
    is_closed = len(corners) > 3 and (corners[0] == corners[-1]).all()
    return bool(inside) or not is_closed, bool(inside), any(_is_far(sides, center, points) for points in inside)


def _keypoint_forms(values: Sequence[float]) -> list[np.ndarray]:
    """Return the visible points (P, 2) that may follow a box: x and y of each, or x, y and visibility 0, 1 or 2."""
    forms = [np.reshape(values[4:], (-1, 2))]
    if len(values) % 3 == 1:
        triples = np.reshape(values[4:], (-1, 3))
        forms += [triples[:, :2]] if np.isin(triples[:, 2], (0, 1, 2)).all() else []
    return [points[points.any(1)] for points in forms]  # 0 0 is not visible


def _is_far(corner: np.ndarray, center: np.ndarray, points: np.ndarray) -> bool:
    """Say whether a corner lies farther from all others than they lie from each other."""
    others = np.concatenate([center[None], points])
    low, high = others.min(0), others.max(0)
    reach = (high - low).max() * (3 if len(others) == 2 else 1)  # triangles may be long
    return bool(((corner < low - reach) | (corner > high + reach)).any())
