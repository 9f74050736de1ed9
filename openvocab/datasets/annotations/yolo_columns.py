"""Decide what the numbers of a long YOLO line are: the corners of a polygon, or a box followed by other columns."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

MAX_BEYOND = 0.1
"""How far polygons and boxes may extend beyond the image, as a fraction of it."""
ROUNDING = 0.01
"""As a fraction of the image."""
BOX_FRACTION = 0.75
"""Above this fraction of lines whose first numbers can be a box, they are boxes: of boxes it is nearly 1, of polygons
about 0.5."""
KEYPOINT_FRACTION = 0.5
"""Above this fraction of lines that can be a box with keypoints in it, a length is suspicious; only small polygons
reach slightly more."""
NO_POLYGON_FRACTION = 0.1
"""Above this fraction of lines that can hardly be a polygon, they are none; of COCO's polygons it is below 0.01."""


@dataclass
class _Count:
    """Counts of the lines of one length."""

    lines: int = 0
    boxes: int = 0
    """Lines whose first four numbers can be a box."""
    keypoints: int = 0
    """Those of `boxes` whose other numbers can be keypoints in the box."""
    no_polygons: int = 0
    """Those of `keypoints` whose corners, read as a polygon, would lie too far apart."""


@dataclass
class LongLines:
    """Statistics of all lines that are longer than a class and a box."""

    first: str = ""
    """File and line of the first one."""
    by_length: dict[int, _Count] = field(default_factory=lambda: defaultdict(_Count))

    def add(self, values: Sequence[float], location: str) -> None:
        """Count a line by the values after its class; `location` is its file and line."""
        self.first = self.first or location
        count = self.by_length[len(values)]
        is_box, has_keypoints, is_no_polygon = _readings(values)
        count.lines += 1
        count.boxes += is_box
        count.keypoints += has_keypoints
        count.no_polygons += is_no_polygon

    def check_polygons(self) -> None:
        """Check that the lines are polygons, not boxes followed by other columns.

        Polygons differ in their number of corners, and many would leave the image if they were boxes. Keypoints lie in
        their box; its width and height, read as the second corner of a polygon, mostly lie far from all other corners.

        Raises:
            ValueError: nearly all lines of one or two lengths can be boxes, or many lines can hardly be polygons.
        """
        counts = list(self.by_length.values())
        total = sum(count.lines for count in counts)
        box_like = sum(count.boxes if len(counts) == 1 else count.keypoints for count in counts)
        no_polygons = sum(count.no_polygons for count in counts)
        odd = no_polygons > NO_POLYGON_FRACTION * total or any(
            count.no_polygons > max(2, NO_POLYGON_FRACTION * count.lines)
            and count.keypoints > KEYPOINT_FRACTION * count.lines
            for count in counts
        )
        if odd or (len(counts) <= 2 and box_like > BOX_FRACTION * total):
            fields = " or ".join(str(length + 1) for length in sorted(self.by_length)[:4])
            raise ValueError(
                f"{self.first}: {fields} fields can be a polygon, or a box that keypoints or a tracker's columns follow"
                f" ({no_polygons if odd else box_like} of {total} such lines): with_masks=True reads them as polygons,"
                " kpt_shape in the data.yaml (given as classes) for boxes with keypoints; cut off other columns"
            )


def _readings(values: Sequence[float]) -> tuple[bool, bool, bool]:
    """Return whether a line can be a box, can be a box with keypoints in it, and can hardly be a polygon."""
    corners = np.reshape(values, (-1, 2))
    center, sides = corners[:2]
    if not ((sides > 0) & (center - sides / 2 >= -MAX_BEYOND) & (center + sides / 2 <= 1 + MAX_BEYOND)).all():
        return False, False, False
    if len(corners) == 4 and (np.abs(corners[0] + corners[2] - corners[1] - corners[3]) < ROUNDING).all():
        return False, False, False  # a parallelogram, which does not occur by chance
    inside = [
        points for points in _keypoint_forms(values) if (np.abs(points - center) <= sides / 2 * 1.1 + ROUNDING).all()
    ]
    is_closed = len(corners) > 3 and (corners[0] == corners[-1]).all()
    return bool(inside) or not is_closed, bool(inside), any(_is_far(sides, center, points) for points in inside)


def _keypoint_forms(values: Sequence[float]) -> list[np.ndarray]:
    """Return the visible points (P, 2) after a box, in each possible form: x y, or x y and visibility 0, 1 or 2."""
    forms = [np.reshape(values[4:], (-1, 2))]
    # Four numbers of the box and triples: the remainder of a division by three is one.
    if len(values) % 3 == 1:
        triples = np.reshape(values[4:], (-1, 3))
        forms += [triples[:, :2]] if np.isin(triples[:, 2], (0, 1, 2)).all() else []
    return [points[points.any(1)] for points in forms]  # 0 0 means invisible


def _is_far(corner: np.ndarray, center: np.ndarray, points: np.ndarray) -> bool:
    """Return whether a corner (2,) lies farther from all other points than these lie from each other."""
    others = np.concatenate([center[None], points])  # (P + 1, 2)
    low, high = others.min(0), others.max(0)
    reach = (high - low).max() * (3 if len(others) == 2 else 1)  # triangles may be elongated
    return bool(((corner < low - reach) | (corner > high + reach)).any())
