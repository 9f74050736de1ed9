"""COCO panoptic annotations read as semantic label maps."""

import json
from pathlib import Path

import numpy as np

from openvocab.datasets.image_io import BadSample, read_image

VOID = 0


class PanopticReader:
    """Reads panoptic PNGs, whose colours are segment ids, as maps of category ids (arXiv 1801.00868, COCO format).

    Args:
        json_path: the file that says which category each segment is.

    Raises:
        FileNotFoundError: no such file.
    """

    def __init__(self, json_path: str | Path) -> None:
        if not Path(json_path).is_file():
            raise FileNotFoundError(f"panoptic_json: no file {json_path}")
        content = json.loads(Path(json_path).read_text(encoding="utf-8"))
        self._segments: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for annotation in content["annotations"]:
            table = sorted((segment["id"], segment["category_id"]) for segment in annotation["segments_info"])
            ids, categories = np.array([(VOID, VOID), *table], np.int64).T  # no segment has id 0
            self._segments[annotation["file_name"]] = ids, categories.astype(np.uint16)

    def __call__(self, path: str | Path) -> np.ndarray:
        """Return the category id of each pixel, (H, W) uint16, 0 where no segment is.

        Raises:
            BadSample: unreadable, not in the JSON file, or with a segment that is not listed there.
        """
        name = Path(path).name
        if name not in self._segments:
            raise BadSample(path, "its name is not in the panoptic JSON file")
        ids, categories = self._segments[name]
        red, green, blue = np.moveaxis(read_image(path).astype(np.int64), -1, 0)
        segments = red + 256 * green + 65536 * blue  # (H, W)
        place = np.searchsorted(ids, segments).clip(max=len(ids) - 1)
        unknown = ids[place] != segments
        if unknown.any():
            raise BadSample(path, f"segment {int(segments[unknown][0])} is not in the panoptic JSON file")
        return categories[place]
