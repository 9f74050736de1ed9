"""Average precision of many detections: COCO's against pycocotools, LVIS's against faster-coco-eval."""

import contextlib
import io
from functools import partial
from typing import Any

import numpy as np
import pycocotools.coco
import pycocotools.cocoeval
from faster_coco_eval import COCO, COCOeval_faster

from benchmarks.comparison import Row, Sides
from openvocab.metrics.detection.coco import coco_average_precision
from openvocab.metrics.detection.lvis import federated_average_precision
from openvocab.metrics.detection.tables import Detections, DetectionTables, Labels, box_areas

COCO_CLASSES, LVIS_CLASSES, LVIS_PER_IMAGE = 80, 1203, 300
WIDTH, HEIGHT = 640, 480
SIX = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")


def prepare_coco(images: int = 5000, per_image: int = 100) -> Sides:
    """Compare with pycocotools; each side starts from what its callers have: ours from arrays, the peer from dicts."""
    tables = random_tables(images, per_image, COCO_CLASSES, objects=7.3)
    labels, results = _as_dicts(tables, COCO_CLASSES)

    def peer() -> list[float]:
        with contextlib.redirect_stdout(io.StringIO()):
            truth = pycocotools.coco.COCO()
            truth.dataset = labels
            truth.createIndex()
            evaluator = pycocotools.cocoeval.COCOeval(truth, truth.loadRes(results), "bbox")
            evaluator.evaluate()
            evaluator.accumulate()
            evaluator.summarize()
        return list(evaluator.stats[:6])

    def ours() -> list[float]:
        means = coco_average_precision(tables, COCO_CLASSES).precision.six_means()
        return [means[name] for name in SIX]

    return Sides(peer, ours, _largest_difference)


def prepare_lvis(images: int = 5000, per_image: int = 300) -> Sides:
    """Compare with faster-coco-eval's LVIS rules, which start from a list of dicts."""
    tables = random_tables(images, per_image, LVIS_CLASSES, objects=12.0)
    labels, results = _as_dicts(tables, LVIS_CLASSES)

    def peer() -> list[float]:
        truth = COCO(labels)
        evaluator = COCOeval_faster(
            truth, truth.loadRes(results), "bbox", lvis_style=True, print_function=lambda *_: None
        )
        evaluator.params.maxDets = [LVIS_PER_IMAGE]
        evaluator.run()
        return [float(value) for value in evaluator.stats[:6]]

    def ours() -> list[float]:
        means = federated_average_precision(tables, LVIS_CLASSES, max_per_image=LVIS_PER_IMAGE).six_means()
        return [means[name] for name in SIX]

    return Sides(peer, ours, _largest_difference)


def random_tables(images: int, per_image: int, num_classes: int, objects: float) -> DetectionTables:
    """Return labels, about `objects` per image with some classes more frequent, and detections, two near each label.

    About eleven classes per image are verified to be absent; a tenth of those present is not exhaustively labeled.
    """
    random = np.random.default_rng(0)
    frequency = np.arange(1, num_classes + 1) ** -0.9
    frequency /= frequency.sum()
    labels, detected, negative, not_exhaustive = [], [], [], []
    for image in range(images):
        count = random.poisson(objects)
        classes, boxes = random.choice(num_classes, count, p=frequency), _random_boxes(random, count)
        near = random.integers(0, max(count, 1), min(2 * count, per_image))
        moved = boxes[near] + random.normal(0, 6, (len(near), 4))
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 2)
        num_random = per_image - len(near)
        guesses = np.concatenate([classes[near], random.choice(num_classes, num_random, p=frequency)])
        scores = np.concatenate([random.beta(3, 2, len(near)), random.beta(1, 6, num_random)])
        order = np.argsort(-scores, kind="stable")
        guessed_boxes = np.concatenate([moved, _random_boxes(random, num_random)])
        labels.append((np.full(count, image), classes, boxes))
        detected.append((np.full(per_image, image), guesses[order], guessed_boxes[order], scores[order]))
        present = np.unique(classes)
        absent = np.setdiff1d(random.choice(num_classes, 11), present)
        negative += [(image, number) for number in absent]
        not_exhaustive += [(image, number) for number in present[random.random(len(present)) < 0.1]]
    label_images, label_classes, label_boxes = (np.concatenate(column) for column in zip(*labels))
    is_crowd = np.zeros(len(label_images), dtype=bool)
    truth = Labels(label_images, label_classes, label_boxes, box_areas(label_boxes), is_crowd)
    images_of, classes_of, boxes_of, scores_of = (np.concatenate(column) for column in zip(*detected))
    detections = Detections(images_of, classes_of, boxes_of, scores_of)
    sizes, names = np.tile((HEIGHT, WIDTH), (images, 1)), [str(image) for image in range(images)]
    pairs = (np.array(pairs, dtype=np.int32).reshape(-1, 2) for pairs in (negative, not_exhaustive))
    return DetectionTables(names, sizes, truth, detections, *pairs)


def _random_boxes(random: np.random.Generator, count: int) -> np.ndarray:
    """Return (count, 4) boxes x1 y1 x2 y2 within the image."""
    sides = np.exp(random.normal(4, 1, (count, 2))).clip(4, 400)
    corners = random.random((count, 2)) * (np.array([WIDTH, HEIGHT]) - sides).clip(1)
    return np.concatenate([corners, corners + sides], axis=1)


def _as_dicts(tables: DetectionTables, num_classes: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return an annotation file's content and results, as COCO's tools read them."""
    labels, detections = tables.labels, tables.detections
    images: list[dict[str, Any]] = [
        {"id": i + 1, "height": HEIGHT, "width": WIDTH} for i in range(len(tables.sample_ids))
    ]
    for key, pairs in (("neg_category_ids", tables.negative), ("not_exhaustive_category_ids", tables.not_exhaustive)):
        for image in images:
            image[key] = []
        for image, number in pairs.tolist():
            images[image][key].append(number + 1)
    categories = [{"id": number + 1, "name": str(number), "frequency": "f"} for number in range(num_classes)]
    annotations = _dicts(labels, {"area": labels.areas, "iscrowd": labels.is_crowd.astype(int)})
    for number, annotation in enumerate(annotations, start=1):
        annotation["id"] = number
    content = {"images": images, "categories": categories, "annotations": annotations}
    return content, _dicts(detections, {"score": detections.scores})


def _dicts(rows: Labels | Detections, more: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    boxes = np.concatenate([rows.boxes[:, :2], rows.boxes[:, 2:] - rows.boxes[:, :2]], axis=1)
    columns = {"image_id": rows.images + 1, "category_id": rows.classes + 1, "bbox": boxes, **more}
    return [dict(zip(columns, values)) for values in zip(*(column.tolist() for column in columns.values()))]


def _largest_difference(expected: list[float], got: list[float]) -> float:
    return float(np.abs(np.subtract(expected, got)).max())


ROWS = (
    Row("coco_ap_500k", 0.145, partial(prepare_coco), repeats=2, note="5000 images; peer: pycocotools"),
    Row(
        "lvis_ap_1500k",
        0.06,
        partial(prepare_lvis),
        repeats=2,
        memory=True,
        max_memory_ratio=0.08,
        note="5000 images; peer: faster-coco-eval",
    ),
)
