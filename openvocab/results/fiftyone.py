"""Results for FiftyOne, a program that shows and searches datasets."""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from openvocab.structures import Size


def fiftyone_segmentation(label_map: np.ndarray, unlabeled: int) -> Any:
    """Return a `fiftyone.Segmentation` of a label map (H, W); values are index + 1, 0 where it is `unlabeled`."""
    mask = np.where(label_map == unlabeled, 0, label_map.astype(np.int64) + 1)
    return _fiftyone().Segmentation(mask=mask.astype(np.min_scalar_type(mask.max())))


def fiftyone_detections(
    boxes: np.ndarray, scores: Sequence[float], names: Sequence[str], masks: Sequence[np.ndarray] | None, size: Size
) -> Any:
    """Return `fiftyone.Detections` of objects.

    Args:
        boxes: (N, 4) x1 y1 x2 y2 in pixels.
        scores, names: N.
        masks: N masks (H, W) bool, of which FiftyOne keeps the part in the box; None if there are none.
        size: (height, width) of the image.
    """
    height, width = size
    detections = []
    for index, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        box = [x1 / width, y1 / height, (x2 - x1) / width, (y2 - y1) / height]
        part = {}
        if masks is not None:
            rows, columns = slice(max(int(y1), 0), int(np.ceil(y2))), slice(max(int(x1), 0), int(np.ceil(x2)))
            part["mask"] = masks[index][rows, columns]
        detections.append(_fiftyone().Detection(label=names[index], confidence=scores[index], bounding_box=box, **part))
    return _fiftyone().Detections(detections=detections)


def fiftyone_classification(name: str, score: float) -> Any:
    """Return a `fiftyone.Classification`."""
    return _fiftyone().Classification(label=name, confidence=score)


def _fiftyone() -> ModuleType:
    """Import FiftyOne.

    Raises:
        ImportError: it is not installed.
    """
    try:
        import fiftyone
    except ImportError as error:
        raise ImportError("to_fiftyone needs a further package: pip install fiftyone") from error
    return fiftyone
