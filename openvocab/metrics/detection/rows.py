"""One image's sample and prediction as rows of the tables, checked."""

from collections.abc import Container, Sequence

import numpy as np
import torch
from pycocotools import mask as rle
from torch import Tensor

from openvocab.metrics.detection.tables import Detections, DetectionTables, Labels, box_areas
from openvocab.structures import DetectionPrediction, Sample


def image_tables(
    sample: Sample, prediction: DetectionPrediction, masks: bool, mask_classes: Container[int] | None = None
) -> DetectionTables:
    """Return the tables of one image.

    Args:
        sample: with `instances` in the original frame.
        masks: whether masks are read too.
        mask_classes: classes whose detected masks are kept; None keeps all.

    Raises:
        ValueError: no instances or masks; a prediction for another image or vocabulary; lengths that differ; NaN or
            infinity; a box of negative size; a class outside the vocabulary; a mask of another size.
    """
    try:
        _check_pair(sample, prediction)
        labels = _labels(sample, masks)
        detections = _detections(sample, prediction, masks, mask_classes)
        negative, not_exhaustive = _federated_pairs(sample)
    except ValueError as error:
        raise ValueError(f"sample {sample.sample_id!r}: {error}") from error
    sizes = np.array([sample.original_size], dtype=np.int32)
    return DetectionTables([sample.sample_id], sizes, labels, detections, negative, not_exhaustive)


def _check_pair(sample: Sample, prediction: DetectionPrediction) -> None:
    if sample.instances is None:
        raise ValueError("it has no instances; average precision needs labeled objects (an empty list is fine)")
    if prediction.sample_id not in ("", sample.sample_id):
        raise ValueError(f"the prediction beside it is of {prediction.sample_id!r}, an image that was not asked for")
    if prediction.vocabulary is not sample.vocabulary and prediction.vocabulary != sample.vocabulary:
        raise ValueError("the prediction has another vocabulary than the sample")


def _labels(sample: Sample, masks: bool) -> Labels:
    instances, count = sample.instances, len(sample.instances.boxes)
    boxes = _checked_boxes(instances.boxes, "labeled")
    classes = _checked_classes(instances.classes, count, len(sample.vocabulary), "labeled")
    crowd = torch.zeros(count, dtype=torch.bool) if instances.is_crowd is None else instances.is_crowd
    if len(crowd) != count:
        raise ValueError(f"expected {count} crowd flags, one a labeled box, got {len(crowd)}")
    areas, counts = box_areas(boxes), None
    if instances.masks is not None:
        _check_shape(tuple(instances.masks.shape), (count, *sample.original_size), "labeled masks")
        areas = instances.masks.flatten(1).sum(1).double().numpy() if count else areas
    if instances.areas is not None:
        _check_shape(tuple(instances.areas.shape), (count,), "labeled areas")
        stated = instances.areas.double().numpy()
        areas = np.where(np.isnan(stated), areas, stated)
    if masks:
        if instances.masks is None:
            raise ValueError("its instances have no masks; mask AP needs them")
        counts = [rle.encode(np.asfortranarray(mask.numpy(), dtype=np.uint8))["counts"] for mask in instances.masks]
    images = np.zeros(count, dtype=np.int32)
    return Labels(images, classes, boxes, areas, crowd.numpy().astype(bool), counts)


def _detections(
    sample: Sample, prediction: DetectionPrediction, masks: bool, mask_classes: Container[int] | None
) -> Detections:
    count = len(prediction.boxes)
    boxes = _checked_boxes(prediction.boxes, "detected")
    classes = _checked_classes(prediction.classes, count, len(sample.vocabulary), "detected")
    _check_shape(tuple(prediction.scores.shape), (count,), "scores")
    scores = prediction.scores.float().numpy()
    if not np.isfinite(scores).all():
        raise ValueError(f"{(~np.isfinite(scores)).sum()} of {count} scores are NaN or infinite")
    order = np.argsort(-scores, kind="stable")
    counts = None
    if masks:
        counts = _mask_counts(prediction, sample.original_size)
        kept = classes if mask_classes is None else [number in mask_classes for number in classes.tolist()]
        counts = [counts[i] if mask_classes is None or kept[i] else b"" for i in order.tolist()]
    return Detections(np.zeros(count, dtype=np.int32), classes[order], boxes[order], scores[order], counts)


def _mask_counts(prediction: DetectionPrediction, size: tuple[int, int]) -> list[bytes]:
    if prediction.masks is None:
        raise ValueError("the prediction has no masks; mask AP needs them")
    _check_shape((len(prediction.masks),), (len(prediction.boxes),), "detected masks")
    for mask in prediction.masks:
        _check_shape(tuple(mask["size"]), tuple(size), "a detected mask")
    counts = [mask["counts"] for mask in prediction.masks]
    return [count.encode() if isinstance(count, str) else count for count in counts]


def _federated_pairs(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    lists: Sequence[Sequence[int]] = ((), ())
    if sample.federated is not None:
        lists = sample.federated.negative, sample.federated.not_exhaustive
    pairs = []
    for classes in lists:
        checked = _checked_classes(torch.tensor(classes), len(classes), len(sample.vocabulary), "federated")
        pairs.append(np.stack([np.zeros_like(checked), checked], axis=1))
    return pairs[0], pairs[1]


def _checked_boxes(boxes: Tensor, kind: str) -> np.ndarray:
    _check_shape(tuple(boxes.shape), (len(boxes), 4), f"{kind} boxes")
    values = boxes.float().numpy()
    if not np.isfinite(values).all():
        raise ValueError(f"a {kind} box is NaN or infinite")
    negative = (values[:, 2:] < values[:, :2]).any(axis=1)
    if negative.any():
        box = values[negative][0].tolist()
        raise ValueError(f"{negative.sum()} {kind} boxes of negative size, such as {box}; expected x1 y1 x2 y2")
    return values


def _checked_classes(classes: Tensor, count: int, num_classes: int, kind: str) -> np.ndarray:
    _check_shape(tuple(classes.shape), (count,), f"{kind} classes")
    values = classes.numpy().astype(np.int32)
    outside = (values < 0) | (values >= num_classes)
    if outside.any():
        raise ValueError(f"{kind} class {values[outside][0]} is not among the {num_classes} classes of the vocabulary")
    return values


def _check_shape(got: tuple[int, ...], expected: tuple[int, ...], what: str) -> None:
    if got != expected:
        raise ValueError(f"{what}: expected shape {expected}, got {got}")
