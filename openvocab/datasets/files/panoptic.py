"""Read COCO's panoptic annotations as semantic label maps."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from openvocab.datasets.files.folder_walk import normal_key
from openvocab.files.file_values import whole_number
from openvocab.files.text_files import read_json
from openvocab.images.image_io import MAX_PIXELS, BadSample, read_image

VOID = 0
NUM_IDS = 2**16


class PanopticReader:
    """Reads panoptic PNGs, whose colors are segment ids, as maps of category ids (arXiv 1801.00868, COCO format).

    Args:
        json_path: the file that states the category of each segment. A `file_name` may begin with folders, which must
            be those of its PNG.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not JSON, or not of this format; a segment or file that is listed twice; the message states the
            annotation.
    """

    def __init__(self, json_path: str | Path) -> None:
        if not Path(json_path).is_file():
            raise FileNotFoundError(f"panoptic_json: no file {json_path}")
        content = read_json(json_path)
        annotations = content.get("annotations") if isinstance(content, dict) else None
        if not isinstance(annotations, list):
            raise ValueError(f"panoptic_json: {json_path} has no list under 'annotations'")
        self._segments: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for number, annotation in enumerate(annotations):
            try:
                name = normal_key(str(annotation["file_name"]))
                if name in self._segments:
                    raise ValueError(f"{name} was listed by an earlier annotation already")
                self._segments[name] = _segment_table(annotation["segments_info"])
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                reason = f"no {error}" if isinstance(error, KeyError) else str(error)
                entry = f"panoptic_json: {json_path}: annotation {number} (from 0)"
                raise ValueError(f"{entry} is not in COCO's panoptic format: {reason}") from error

    def __call__(self, path: str | Path, max_pixels: int | None = MAX_PIXELS) -> np.ndarray:
        """Return the category id of each pixel, (H, W) uint16, 0 outside of all segments.

        Raises:
            BadSample: unreadable, not in the JSON file, or with a segment that is not listed there.
        """
        name = self._name_of(path)
        if name is None:
            example = ", ".join(list(self._segments)[:1])
            raise BadSample(path, f"panoptic_json does not list its name, but {len(self._segments)} others ({example})")
        ids, categories = self._segments[name]
        red, green, blue = np.moveaxis(read_image(path, max_pixels).astype(np.int64), -1, 0)
        segments = red + 256 * green + 65536 * blue  # (H, W)
        index = np.searchsorted(ids, segments).clip(max=len(ids) - 1)  # (H, W); beyond the last id there is no entry
        unknown = ids[index] != segments
        if unknown.any():
            raise BadSample(path, f"panoptic_json does not list its segment {int(segments[unknown][0])}")
        return categories[index]

    def check_distinct(self, paths: Iterable[str | Path]) -> None:
        """Check that each PNG has an entry of its own.

        Raises:
            ValueError: two PNGs share one.
        """
        path_of: dict[str, str | Path] = {}
        for path in paths:
            name = self._name_of(path)
            if name is not None and name in path_of:
                raise ValueError(
                    f"panoptic_json: {path_of[name]} and {path} both match its {name!r}; write their folders into its "
                    "file_name"
                )
            if name is not None:
                path_of[name] = path

    def _name_of(self, path: str | Path) -> str | None:
        """Return the longest end of a path that the JSON file lists, None if it lists none."""
        parts = PurePath(normal_key(path)).parts
        ends = (PurePath(*parts[start:]).as_posix() for start in range(len(parts)))
        return next((end for end in ends if end in self._segments), None)


def _segment_table(segments: list[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Return (S,) int64 ids of segments, ascending, and (S,) uint16 categories; the first entry means "no segment"."""
    pairs = [[whole_number(entry[key], key) for key in ("id", "category_id")] for entry in segments]
    times = Counter(segment_id for segment_id, _ in pairs)
    if VOID in times:
        raise ValueError(f"a segment has the id {VOID}, which means no segment")
    if repeated := [segment_id for segment_id, count in times.items() if count > 1]:
        raise ValueError(f"segment {repeated[0]} is listed {times[repeated[0]]} times")
    table = np.array([(VOID, VOID), *pairs], np.int64)
    if table.min() < 0 or table[:, 1].max() >= NUM_IDS:
        raise ValueError(f"expected whole numbers as ids, of categories below {NUM_IDS}")
    ids, categories = table[np.argsort(table[:, 0], kind="stable")].T
    return ids, categories.astype(np.uint16)
