"""COCO's average precision, computed by faster-coco-eval: the numbers of pycocotools in a fraction of the time."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from openvocab.metrics.confusion import mean_of_present
from openvocab.metrics.detection.class_precision import AREAS, ClassPrecision, Shape
from openvocab.metrics.detection.tables import (
    Detections,
    DetectionTables,
    Labels,
    box_areas,
    encoded_masks,
    mask_areas,
    take_rows,
)

DETECTIONS = (1, 10, 100)
"""Numbers of best detections per class and image that count; average precision is at the last one."""
EVALUATIONS = {"box": "bbox", "mask": "segm"}


@dataclass(frozen=True)
class CocoScores:
    """The results of COCO's evaluator."""

    precision: ClassPrecision
    recall: np.ndarray
    """(len(DETECTIONS), A, T, K) highest recall; NaN if a class has no object in that range of areas."""

    def twelve_numbers(self) -> dict[str, float]:
        """Return the numbers that COCO's evaluator prints, in its order, 0..1."""
        areas = ("small", "medium", "large")
        recall = {f"AR{count}": mean_of_present(self.recall[i, 0]) for i, count in enumerate(DETECTIONS)}
        recall |= {f"AR_{area}": mean_of_present(self.recall[-1, list(AREAS).index(area)]) for area in areas}
        return self.precision.six_means() | recall


def coco_average_precision(tables: DetectionTables, num_classes: int, shape: Shape = "box") -> CocoScores:
    """Evaluate detections by COCO's rules: the best 100 per class and image count; crowd regions are ignored.

    Args:
        tables: one table for each of I images.
        num_classes: K.
        shape: "mask" needs masks in labels and detections.
    """
    with _no_garbage_collection():
        result = _run_evaluator(tables, num_classes, shape)
    # The mean over the R recalls is the average precision; [-1] is the largest number of detections.
    precisions = _nan_where_absent(result["precision"])[..., -1]  # (T, R, K, A)
    precision = precisions.mean(axis=1)  # (T, K, A)
    recall = _nan_where_absent(result["recall"])  # (T, K, A, len(DETECTIONS))
    return CocoScores(
        ClassPrecision(precision.transpose(2, 0, 1), precisions[0, :, :, 0]), recall.transpose(3, 2, 0, 1)
    )


def _run_evaluator(tables: DetectionTables, num_classes: int, shape: Shape) -> dict[str, Any]:
    """Return precision (T, R, K, A, len(DETECTIONS)) and recall (T, K, A, len(DETECTIONS)); -1 for undefined."""
    frames = tables.sizes.tolist()
    images = [{"id": i, "height": height, "width": width} for i, (height, width) in enumerate(frames, start=1)]
    content = {"images": images, "categories": [{"id": number} for number in range(1, num_classes + 1)]}
    labels, detections = tables.labels, tables.detections
    # a class without labels has no AP; its detections would only cost time
    evaluated = np.isin(detections.classes, labels.classes)
    detections = take_rows(detections, np.flatnonzero(evaluated))
    ground_truth = _annotations(labels, tables.sizes, shape, labels.areas, "iscrowd", labels.is_crowd.astype(int))
    detected = _annotations(detections, tables.sizes, shape, None, "score", detections.scores)
    evaluator = COCOeval_faster(
        COCO({**content, "annotations": ground_truth}), COCO({**content, "annotations": detected}), EVALUATIONS[shape]
    )
    evaluator.params.maxDets = list(DETECTIONS)
    evaluator.evaluate()
    evaluator.accumulate()
    return evaluator.eval


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Disable the garbage collector, which takes a quarter of the time: it searches one dict per detection in vain."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _annotations(
    rows: Labels | Detections, sizes: np.ndarray, shape: Shape, areas: np.ndarray | None, key: str, values: np.ndarray
) -> list[dict[str, Any]]:
    """Return one COCO annotation per row, with a further entry.

    Args:
        rows: N labels or detections.
        sizes: (I, 2) height and width of the images.
        shape: whether the annotations have masks.
        areas: (N,); default: those of the masks or, if there are none, of the boxes.
        key, values: name and (N,) values of the further entry.
    """
    boxes = rows.boxes.astype(np.float64)
    boxes[:, 2:] -= boxes[:, :2]  # x y width height
    masks = encoded_masks(rows, sizes) if shape == "mask" else None
    if areas is None:
        areas = box_areas(rows.boxes) if masks is None else mask_areas(masks)
    # COCO's ids start at 1: its evaluator takes 0 for "no match"
    columns = (rows.images + 1, rows.classes + 1, boxes, areas, values)
    annotations = [
        {"id": number, "image_id": image, "category_id": category, "bbox": box, "area": area, key: value}
        for number, (image, category, box, area, value) in enumerate(zip(*(c.tolist() for c in columns)), start=1)
    ]
    for annotation, mask in zip(annotations, masks or ()):
        annotation["segmentation"] = mask
    return annotations


def _nan_where_absent(values: Any) -> np.ndarray:
    """Replace the evaluator's -1, for undefined values, by NaN (any shape)."""
    array = np.asarray(values, dtype=np.float64)
    return np.where(array < 0, np.nan, array)
