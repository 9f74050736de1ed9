"""Made-up images, labels and detections for the tests of detection metrics, and a slow LVIS evaluator to check by."""

import numpy as np
import torch
from pycocotools import mask as rle

from openvocab.metrics.detection.class_precision import AREAS, RECALLS, THRESHOLDS
from openvocab.metrics.detection.rows import image_tables
from openvocab.metrics.detection.tables import DetectionTables, merge_tables
from openvocab.structures import DetectionPrediction, FederatedLabels, Instances, Sample
from openvocab.vocabulary.vocabulary import Vocabulary

NAMES = [f"class {index}" for index in range(6)]
VOCABULARY = Vocabulary.from_names(NAMES, unseen=NAMES[4:])
SIZE = (120, 160)


def make_sample(name, boxes, classes, *, crowd=None, masks=False, federated=None, vocabulary=VOCABULARY):
    boxes = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    instances = Instances(boxes, torch.as_tensor(classes, dtype=torch.int64).reshape(-1))
    if crowd is not None:
        instances.is_crowd = torch.as_tensor(crowd, dtype=torch.bool)
    if masks:
        instances.masks = torch.from_numpy(fill(boxes.numpy()))
    return Sample(name, vocabulary, SIZE, SIZE, instances=instances, federated=federated)


def make_prediction(name, boxes, classes, scores, *, masks=False, vocabulary=VOCABULARY):
    boxes = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    encoded = [rle.encode(np.asfortranarray(mask, np.uint8)) for mask in fill(boxes.numpy())] if masks else None
    classes = torch.as_tensor(classes, dtype=torch.int64).reshape(-1)
    scores = torch.as_tensor(scores, dtype=torch.float32).reshape(-1)
    return DetectionPrediction(boxes, scores, classes, vocabulary, encoded, name)


def fill(boxes):
    """Masks of boxes without their lower right corner, so that masks and boxes overlap differently."""
    masks = np.zeros((len(boxes), *SIZE), dtype=bool)
    for mask, (left, top, right, bottom) in zip(masks, boxes.round().astype(int)):
        mask[top:bottom, left:right] = True
        mask[(top + bottom) // 2 : bottom, (left + right) // 2 : right] = False
    return masks


def random_pairs(seed=0, images=12, masks=False, crowds=False, federated=False, spread=3.0, detections=40):
    """Return (samples, predictions): half of the detections near labels, scores with many ties."""
    rng = np.random.default_rng(seed)
    samples, predictions = [], []
    for image in range(images):
        count = int(rng.integers(0, 9))
        boxes, classes = random_boxes(rng, count), rng.integers(0, 5, count)  # the last class has no label
        crowd = rng.random(count) < 0.2 if crowds else None
        lists = None
        if federated:
            absent = np.setdiff1d(rng.integers(0, 6, 2), classes)
            lists = FederatedLabels(tuple(absent.tolist()), tuple(classes[rng.random(count) < 0.3].tolist()))
        samples.append(make_sample(str(image), boxes, classes, crowd=crowd, masks=masks, federated=lists))
        near = rng.integers(0, count, detections // 2 if count else 0)
        moved = boxes[near] + rng.normal(0, spread, (len(near), 4))
        moved = np.concatenate([np.minimum(moved[:, :2], moved[:, 2:]), np.maximum(moved[:, :2], moved[:, 2:])], 1)
        other = detections - len(near)
        found = np.concatenate([moved.clip(0, 119), random_boxes(rng, other)])
        numbers = np.concatenate([classes[near], rng.integers(0, 6, other)])
        scores = rng.integers(1, 30, detections) / 32
        predictions.append(make_prediction(str(image), found, numbers, scores, masks=masks))
    return samples, predictions


def random_boxes(rng, count):
    """Boxes of very different sizes, whole pixels."""
    sides = np.exp(rng.uniform(np.log(4), np.log(110), (count, 2))).astype(int)
    corner = (rng.random((count, 2)) * (np.array([159, 119]) - sides).clip(0)).astype(int)
    return np.concatenate([corner, np.minimum(corner + sides, (159, 119))], axis=1).astype(float)


def tables_of(samples, predictions, masks=False) -> DetectionTables:
    return merge_tables([image_tables(sample, found, masks) for sample, found in zip(samples, predictions)])


def slow_federated_ap(tables, num_classes, shape="box", max_per_image=300, max_per_class=None):
    """LVIS's rules once more, one detection at a time: (A, T, K), NaN where a class has no object."""
    found, labels = _listed(tables, tables.detections, shape), _listed(tables, tables.labels, shape)
    if max_per_image is not None:
        found = _best_of_each(found, "image", max_per_image)
    if max_per_class is not None:
        found = _best_of_each(found, "class", max_per_class)
    negative, lenient = ({tuple(pair) for pair in pairs.tolist()} for pairs in (tables.negative, tables.not_exhaustive))
    values = np.full((len(AREAS), len(THRESHOLDS), num_classes), np.nan)
    for a, (low, high) in enumerate(AREAS.values()):
        for t, threshold in enumerate(THRESHOLDS):
            for number in range(num_classes):
                own = [label for label in labels if label["class"] == number]
                expected = sum(low <= label["area"] <= high for label in own)
                if expected:
                    judged = [d for d in found if d["class"] == number]
                    marks = _marks(judged, own, negative, lenient, low, high, min(threshold, 1 - 1e-10))
                    values[a, t, number] = _slow_precision(marks, expected)
    return values


def _best_of_each(found, key, limit):
    best = []
    for value in sorted({d[key] for d in found}):
        best += sorted((d for d in found if d[key] == value), key=lambda d: -d["score"])[:limit]
    return best


def _listed(tables, rows, shape):
    entries = []
    for index, (image, number) in enumerate(zip(rows.images.tolist(), rows.classes.tolist())):
        left, top, right, bottom = rows.boxes[index].astype(float)
        entry = {"image": image, "class": number, "order": index, "region": [left, top, right - left, bottom - top]}
        entry["area"] = (right - left) * (bottom - top)
        if shape == "mask":
            entry["region"] = {"size": tables.sizes[image].tolist(), "counts": rows.masks[index]}
            entry["area"] = float(rle.area(entry["region"]))
        if hasattr(rows, "scores"):
            entry["score"] = rows.scores[index]
        else:
            entry["area"] = rows.areas[index]
        entries.append(entry)
    return entries


def _marks(found, labels, negative, lenient, low, high, threshold):
    """(score, order, is right) of the detections that count."""
    marks = []
    for image in sorted({d["image"] for d in found}):
        own = [label for label in labels if label["image"] == image]
        key = image, found[0]["class"]
        if not own and key not in negative:
            continue
        own.sort(key=lambda label: not low <= label["area"] <= high)
        free = list(range(len(own)))
        for d in sorted((d for d in found if d["image"] == image), key=lambda d: -d["score"]):
            overlaps = {i: float(np.ravel(rle.iou([d["region"]], [own[i]["region"]], [0]))[0]) for i in free}
            fitting = [i for i in free if overlaps[i] >= threshold]
            counted = [i for i in fitting if low <= own[i]["area"] <= high]
            choice = max(counted or fitting, key=lambda i: (overlaps[i], i), default=None)
            if choice is not None:
                free.remove(choice)
                if counted:
                    marks.append((d["score"], image, d["order"], True))
            elif low <= d["area"] <= high and key not in lenient:
                marks.append((d["score"], image, d["order"], False))
    return [right for _, _, _, right in sorted(marks, key=lambda mark: (-mark[0], mark[1], mark[2]))]


def _slow_precision(marks, expected):
    right, curve = 0, []
    for count, is_right in enumerate(marks, start=1):
        right += is_right
        curve.append((right / expected, right / count))
    return float(np.mean([max((p for recall, p in curve if recall >= r), default=0.0) for r in RECALLS]))
