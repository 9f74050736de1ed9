"""Object masks of a whole dataset in one buffer, encoded as in its files; each is decoded when it is asked for."""

import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from openvocab.datasets.annotations.run_lengths import pixels_of_runs
from openvocab.files.file_values import numbers, whole_number
from openvocab.structures import Size

MIN_CORNERS = 3
HUNDREDTH = 100
MAX_OUTLINE = 10_000_000
"""Pixels on the outline of a polygon: pycocotools takes 40 bytes for each, so that 1e9 would take all memory."""


class MaskPacker:
    """Collects the masks of many objects; `build` returns them in the order of `append`.

    Coordinates with at most two decimals, the rule in COCO and LVIS, take half the memory of others; none is rounded.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._ends: list[int] = [0]
        self._sizes: list[Size | None] = []

    def append(self, segmentation: list | dict | None) -> None:
        """Add the mask of the next object.

        Args:
            segmentation: COCO's forms: a list of polygons [x1, y1, x2, y2, ...] in pixels, or a run-length encoding
                {"size": [H, W], "counts": list, str or bytes}; None or an empty one for an object without a mask.

        Raises:
            ValueError: none of these.
        """
        size = None
        if isinstance(segmentation, dict) and segmentation:
            packed, size = _pack_runs(segmentation)
        elif segmentation is None or isinstance(segmentation, list | dict):
            packed = _pack_polygons(segmentation if isinstance(segmentation, list) else [])
        else:
            raise ValueError(f"segmentation: expected polygons or a run-length encoding, got {str(segmentation)[:40]}")
        self._buffer += packed
        self._ends.append(len(self._buffer))
        self._sizes.append(size)

    def build(self) -> "PackedMasks":
        """Return the masks as arrays, which loader workers share without copying."""
        ends = np.array(self._ends, np.int64)
        sizes = np.array([size or (0, 0) for size in self._sizes], np.int32).reshape(-1, 2)
        return PackedMasks(self._buffer, ends[:-1], ends[1:], sizes)


class PackedMasks:
    """Polygons and run-length encodings of M objects in one buffer.

    Args:
        buffer: the packed masks.
        starts, ends: (M,) int64 offsets of each mask in `buffer`; equal for an object without a mask.
        sizes: (M, 2) int32 height and width that a run-length encoding states, 0 for polygons.
    """

    def __init__(self, buffer: bytearray, starts: np.ndarray, ends: np.ndarray, sizes: np.ndarray) -> None:
        self._buffer, self._starts, self._ends = buffer, starts, ends
        self.sizes = sizes

    def __len__(self) -> int:
        return len(self.sizes)

    def subset(self, rows: np.ndarray) -> "PackedMasks":
        """Return the masks at (N,) `rows`, on the same buffer."""
        return PackedMasks(self._buffer, self._starts[rows], self._ends[rows], self.sizes[rows])

    @property
    def has_mask(self) -> np.ndarray:
        """(M,) bool."""
        return self._ends > self._starts

    def bounds(self, index: int, size: Size) -> np.ndarray | None:
        """Return the box x1 y1 x2 y2 around the pixels of a mask, (4,) float64, without decoding it.

        None for an empty mask: polygons outside the image or without area, or runs of 0 alone.
        """
        content = self._content(index)
        if isinstance(content, bytes):
            parts = [{"size": list(size), "counts": content}]
        else:
            parts = coco_mask.frPyObjects(content, *size) if content else []
        # A part without pixels has a box of zeros, which would stretch the union to the corner of the image.
        boxes = np.reshape([coco_mask.toBbox(part) for part in parts if coco_mask.area(part)], (-1, 4))
        return np.concatenate([boxes[:, :2].min(0), (boxes[:, :2] + boxes[:, 2:]).max(0)]) if len(boxes) else None

    def decode(self, index: int, size: Size) -> np.ndarray:
        """Return a mask in an image of `size` (height, width) as (H, W) uint8, 1 inside.

        Polygons are filled by pycocotools' rule.
        """
        content = self._content(index)
        if isinstance(content, bytes):
            return coco_mask.decode({"size": list(size), "counts": content})
        if not content:
            return np.zeros(size, np.uint8)
        # The union of the polygons: an object may consist of several parts.
        return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(content, *size)))

    def _content(self, index: int) -> bytes | list[list[float]]:
        """Return the compressed run lengths of a mask or its polygons; no polygons for an object without a mask."""
        record = self._buffer[self._starts[index] : self._ends[index]]
        # pickled by this module in this process: unlike a file's, it needs no restricted unpickler
        content = pickle.loads(record) if record else []
        return content if isinstance(content, bytes) else [_unpack_polygon(*polygon) for polygon in content]


def outline_length(polygon: Sequence[float] | np.ndarray) -> float:
    """Return an upper bound of the pixels that the outline of a polygon x1, y1, x2, y2, ..., (2 * P,), passes."""
    values = np.abs(np.asarray(polygon, np.float64))
    bound = float(values.max()) * len(values)  # no edge is longer than twice the largest coordinate
    if bound <= MAX_OUTLINE:
        return bound
    corners = np.asarray(polygon, np.float64).reshape(-1, 2)  # (P, 2)
    # Per edge, the longer of its two extents; roll pairs each corner with the one before it.
    with np.errstate(over="ignore"):  # an infinite length is too long as well
        return float(np.abs(corners - np.roll(corners, 1, axis=0)).max(axis=1).sum())


def _pack_polygons(polygons: list) -> bytes:
    if not all(isinstance(polygon, list | tuple) for polygon in polygons):
        raise ValueError(f"segmentation: expected a list of polygons [x1, y1, x2, y2, ...], got {str(polygons)[:40]}")
    packed = [packed for polygon in polygons if (packed := _pack_polygon(polygon)) is not None]
    return pickle.dumps(packed, protocol=pickle.HIGHEST_PROTOCOL) if packed else b""


def _pack_polygon(polygon: Sequence[float]) -> tuple[str, bytes] | None:
    """Pack a polygon; None for fewer than three corners, since pycocotools reads two as a box."""
    try:
        values = np.array(numbers(polygon, "segmentation"), np.float64)
    except ValueError:
        values = np.full(1, np.nan)
    if len(values) % 2 or not np.isfinite(values).all():
        raise ValueError(
            f"segmentation: a polygon is a flat list x1, y1, x2, y2, ... of numbers, got {str(polygon)[:40]}"
        )
    if len(values) < 2 * MIN_CORNERS:
        return None
    if outline_length(values) > MAX_OUTLINE:
        raise ValueError(f"segmentation: a polygon with an outline of more than {MAX_OUTLINE} pixels")
    # Only if dividing by 100 returns exactly the same float64: nothing is rounded.
    hundredths = np.rint(values * HUNDREDTH)
    if (np.abs(hundredths) < 2**31).all() and (hundredths / HUNDREDTH == values).all():
        return "i4", hundredths.astype(np.int32).tobytes()
    return "f8", values.tobytes()


def _unpack_polygon(dtype: str, content: bytes) -> list[float]:
    values = np.frombuffer(content, dtype)
    return (values / HUNDREDTH if dtype == "i4" else values).tolist()


def _pack_runs(runs: dict[str, Any]) -> tuple[bytes, Size]:
    size = runs.get("size")
    if "counts" not in runs or not isinstance(size, list | tuple) or len(size) != 2:
        raise ValueError(f'segmentation: expected {{"size": [H, W], "counts": ...}}, got the keys {sorted(runs)[:5]}')
    height, width = _pixel_counts(size, "a size [height, width]")
    if max(height, width, height * width) >= 2**31:
        raise ValueError(f"segmentation: a mask of {height}x{width}, expected fewer than 2^31 pixels")
    counts = runs["counts"]
    if isinstance(counts, list):
        counts = {"size": [height, width], "counts": _pixel_counts(counts, "counts")}
        counts = coco_mask.frPyObjects(counts, height, width)["counts"]
    counts = counts.encode("ascii") if isinstance(counts, str) else counts
    if not isinstance(counts, bytes):
        raise ValueError(f"segmentation: expected counts as a list, text or bytes, got {type(counts).__name__}")
    if (pixels := pixels_of_runs(counts)) != height * width:
        raise ValueError(f"segmentation: runs of {pixels} pixels in all, for a mask of {height}x{width}")
    return pickle.dumps(counts, protocol=pickle.HIGHEST_PROTOCOL), (height, width)


def _pixel_counts(values: Sequence[float], expected: str) -> list[int]:
    """Return numbers of pixels; pycocotools casts them to unsigned 32 bits without a check."""
    try:
        counts = [whole_number(value, "segmentation") for value in values]
    except ValueError:
        counts = [-1]
    if not all(0 <= count < 2**32 for count in counts):
        raise ValueError(f"segmentation: expected {expected} in pixels, whole numbers, got {str(values)[:40]}")
    return counts
