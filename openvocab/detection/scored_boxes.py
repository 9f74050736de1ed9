"""From boxes with a score for every class to the detections of an image."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from openvocab.argument_checks import check_fraction, check_number
from openvocab.ops.class_wise_nms import class_wise_nms
from openvocab.structures import DetectionPrediction, Sample, known


@dataclass(frozen=True)
class DetectionChoice:
    """Which of all pairs of a box and a class become detections.

    Raises:
        ValueError: a value out of its range.
    """

    one_class_per_box: bool = True
    """Each box becomes an object of its best class only. Otherwise it may become objects of several classes, which
    average precision over many similar classes needs."""
    nms_iou: float = 1.0
    """IoU above which a box suppresses others of its class; 1 keeps all of them."""
    max_detections: int = 300
    """Upper limit per image; for fixed AP on LVIS 1000 or more."""
    min_score: float = 0.0
    """Only detections above it are kept."""

    def __post_init__(self) -> None:
        check_fraction("detections.nms_iou", self.nms_iou)
        check_fraction("detections.min_score", self.min_score)
        check_number("detections.max_detections", self.max_detections, 1, whole=True)


def choose_detections(
    boxes: Tensor, scores: Tensor, sample: Sample, choice: DetectionChoice, classes: Sequence[int] | None = None
) -> DetectionPrediction:
    """Return the detections of one image, best first.

    Args:
        boxes: (N, 4) x1 y1 x2 y2 in pixels, original frame, clipped to the image; empty ones are not detected.
        scores: (N, k) in 0..1.
        sample: its vocabulary's background is not detected; with `one_class_per_box` it takes the boxes whose best
            class it is.
        choice: which pairs are kept.
        classes: (k,) indices into the vocabulary; default: all its classes in their order.
    """
    vocabulary = known(sample.vocabulary, f"vocabulary of sample {sample.sample_id!r}")
    indices = torch.arange(len(vocabulary)) if classes is None else torch.tensor(classes)
    if choice.one_class_per_box:
        best = scores.argmax(dim=1, keepdim=True)  # (N, 1)
        scores = torch.zeros_like(scores).scatter(1, best, scores.gather(1, best))
    if vocabulary.background is not None:
        scores = scores.masked_fill((indices == vocabulary.background).to(scores.device), 0)
    has_area = (boxes[:, 2:] > boxes[:, :2]).all(dim=1)  # (N,), False for a box outside the image
    scores = scores * has_area[:, None]
    rows, columns, scores = class_wise_nms(boxes, scores, choice.nms_iou, choice.max_detections, choice.min_score)
    found = indices[columns.cpu()]
    return DetectionPrediction(boxes[rows].cpu(), scores.cpu(), found, vocabulary, sample_id=sample.sample_id)


def merge_detections(parts: Sequence[DetectionPrediction], max_detections: int) -> DetectionPrediction:
    """Merge the detections of one image, for different classes of one vocabulary; the best `max_detections` stay."""
    boxes, scores, classes = (
        torch.cat([getattr(part, name) for part in parts]) for name in ("boxes", "scores", "classes")
    )
    order = scores.argsort(descending=True, stable=True)[:max_detections]
    return DetectionPrediction(
        boxes[order], scores[order], classes[order], parts[0].vocabulary, sample_id=parts[0].sample_id
    )
