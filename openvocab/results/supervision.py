"""Results for supervision, a library of annotators, trackers and metrics."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def supervision_detections(
    boxes: np.ndarray | None,
    masks: np.ndarray | None,
    scores: np.ndarray | None,
    classes: Sequence[int],
    names: Sequence[str],
) -> Any:
    """Return `supervision.Detections`.

    Args:
        boxes: (N, 4) x1 y1 x2 y2 in pixels; None for those around the masks.
        masks: (N, H, W) bool; None if there are none.
        scores: (N,); None without scores.
        classes: (N,) indices into `names`.
        names: K names.

    Raises:
        ImportError: supervision is not installed.
    """
    try:
        import supervision
    except ImportError as error:
        raise ImportError("to_supervision needs a further package: pip install supervision") from error
    if boxes is None:
        boxes = np.zeros((0, 4)) if masks is None or not len(masks) else supervision.mask_to_xyxy(masks)
    labels = np.array(classes, dtype=int)
    found = np.array([names[index] for index in classes], dtype=str)
    return supervision.Detections(
        xyxy=np.asarray(boxes, dtype=np.float32), mask=masks, confidence=scores, class_id=labels,
        data={"class_name": found},
    )  # fmt: skip
