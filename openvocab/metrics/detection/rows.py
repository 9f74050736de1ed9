"""The rows of the tables for one image, after a check of its sample and prediction."""

from collections.abc import Container, Sequence

import numpy as np
import torch
from pycocotools import mask as rle
from torch import Tensor

from openvocab.metrics.detection.tables import Detections, DetectionTables, Labels, box_areas
from openvocab.structures import DetectionPrediction, Instances, Sample, Size, known


def image_tables(
    sample: Sample, prediction: DetectionPrediction, masks: bool, mask_classes: Container[int] | None = None
) -> DetectionTables:
    """Return the tables of one image.

    Args:
        sample: a sample with `instances` in the original frame.
        prediction: prediction for the same image, in the original frame.
        masks: whether the tables have masks.
        mask_classes: classes whose detected masks are kept; default: all.

    Raises:
        ValueError: no instances or masks; a prediction for another image or vocabulary; unequal lengths; NaN or
            infinity; a box of negative size; a class outside the vocabulary; a mask of the wrong size.
    """
    try:
        instances, num_classes = _checked_pair(sample, prediction)
        labels = _labels(instances, num_classes, sample.original_size, masks)
        detections = _detections(prediction, num_classes, sample.original_size, masks, mask_classes)
        negative, not_exhaustive = _federated_pairs(sample, num_classes)
    except ValueError as error:
        raise ValueError(f"sample {sample.sample_id!r}: {error}") from error
    sizes = np.array([sample.original_size], dtype=np.int32)
    return DetectionTables([sample.sample_id], sizes, labels, detections, negative, not_exhaustive)


def _checked_pair(sample: Sample, prediction: DetectionPrediction) -> tuple[Instances, int]:
    """Return the labeled objects and the number of classes, after a check that the prediction belongs to the sample."""
    if sample.instances is None:
        raise ValueError("it has no instances; average precision needs labeled objects (an empty list is fine)")
    if prediction.sample_id not in ("", sample.sample_id):
        raise ValueError(f"its prediction is for another image, {prediction.sample_id!r}")
    if prediction.vocabulary is not sample.vocabulary and prediction.vocabulary != sample.vocabulary:
        raise ValueError("the prediction has another vocabulary than the sample")
    return sample.instances, len(known(sample.vocabulary, "its vocabulary"))


def _labels(instances: Instances, num_classes: int, size: Size, masks: bool) -> Labels:
    """Return the rows of the labeled objects of an image of (height, width) `size`."""
    count = len(instances.boxes)
    boxes = _checked_boxes(instances.boxes, "labeled")
    classes = _checked_classes(instances.classes, count, num_classes, "labeled")
    crowd = torch.zeros(count, dtype=torch.bool) if instances.is_crowd is None else instances.is_crowd
    if len(crowd) != count:
        raise ValueError(f"expected {count} crowd flags, one per labeled box, got {len(crowd)}")
    # areas in the order of preference: stated by the file, of the mask, of the box
    areas, counts = box_areas(boxes), None
    if instances.masks is not None:
        _check_shape(tuple(instances.masks.shape), (count, *size), "labeled masks")
        areas = instances.masks.flatten(1).sum(1).double().numpy() if count else areas  # (N,)
    if instances.areas is not None:
        _check_shape(tuple(instances.areas.shape), (count,), "labeled areas")
        stated = instances.areas.double().numpy()
        # A file may state the areas of some objects only.
        areas = np.where(np.isnan(stated), areas, stated)
    if masks:
        if instances.masks is None:
            raise ValueError("its instances have no masks; mask AP needs them")
        # pycocotools reads masks column by column.
        counts = [rle.encode(np.asfortranarray(mask.numpy(), dtype=np.uint8))["counts"] for mask in instances.masks]
    images = np.zeros(count, dtype=np.int32)
    return Labels(images, classes, boxes, areas, crowd.numpy().astype(bool), counts)


def _detections(
    prediction: DetectionPrediction, num_classes: int, size: Size, masks: bool, mask_classes: Container[int] | None
) -> Detections:
    """Return the rows of the detections in an image of (height, width) `size`, best score first."""
    count = len(prediction.boxes)
    boxes = _checked_boxes(prediction.boxes, "detected")
    classes = _checked_classes(prediction.classes, count, num_classes, "detected")
    _check_shape(tuple(prediction.scores.shape), (count,), "scores")
    scores = prediction.scores.float().numpy()
    if not np.isfinite(scores).all():
        raise ValueError(f"{(~np.isfinite(scores)).sum()} of {count} scores are NaN or infinite")
    # Stable, so that equal scores keep the order of the model, as in pycocotools' merge sort.
    order = np.argsort(-scores, kind="stable")
    counts = None
    if masks:
        all_counts, numbers = _mask_counts(prediction, size), classes.tolist()
        counts = [all_counts[i] if mask_classes is None or numbers[i] in mask_classes else b"" for i in order.tolist()]
    return Detections(np.zeros(count, dtype=np.int32), classes[order], boxes[order], scores[order], counts)


def _mask_counts(prediction: DetectionPrediction, size: Size) -> list[bytes]:
    """Return the run lengths of the N detected masks, which are of (height, width) `size`."""
    if prediction.masks is None:
        raise ValueError("the prediction has no masks; mask AP needs them")
    _check_shape((len(prediction.masks),), (len(prediction.boxes),), "detected masks")
    for mask in prediction.masks:
        _check_shape(tuple(mask["size"]), tuple(size), "a detected mask")
    counts = [mask["counts"] for mask in prediction.masks]
    return [count.encode() if isinstance(count, str) else count for count in counts]


def _federated_pairs(sample: Sample, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (M, 2) int32 pairs (0, class): classes verified to be absent, and classes not labeled exhaustively."""
    lists: Sequence[Sequence[int]] = ((), ())
    if sample.federated is not None:
        lists = sample.federated.negative, sample.federated.not_exhaustive
    pairs = []
    for classes in lists:
        checked = _checked_classes(torch.tensor(classes), len(classes), num_classes, "federated")
        pairs.append(np.stack([np.zeros_like(checked), checked], axis=1))
    return pairs[0], pairs[1]


def _checked_boxes(boxes: Tensor, kind: str) -> np.ndarray:
    """Return boxes (N, 4) as float32, checked."""
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
    """Return classes (count,) as int32, checked."""
    _check_shape(tuple(classes.shape), (count,), f"{kind} classes")
    values = classes.numpy().astype(np.int32)
    outside = (values < 0) | (values >= num_classes)
    if outside.any():
        raise ValueError(f"{kind} class {values[outside][0]} is not among the {num_classes} classes of the vocabulary")
    return values


def _check_shape(got: tuple[int, ...], expected: tuple[int, ...], what: str) -> None:
    if got != expected:
        raise ValueError(f"{what}: expected shape {expected}, got {got}")
