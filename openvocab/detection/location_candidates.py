"""From the raw outputs of a one-stage detector at the locations of an image to its detections."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from openvocab.argument_checks import check_choice, check_fraction, check_number
from openvocab.detection.box_coding import decode_boxes, edge_corners
from openvocab.detection.phrase_scores import PhraseScore, class_scores
from openvocab.ops.class_wise_nms import class_wise_nms
from openvocab.structures import DetectionPrediction, Sample, known

BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
"""Factors of the offsets that a location predicts."""


@dataclass(frozen=True)
class CandidateChoice:
    """Which of all pairs of a location and a class become detections.

    Raises:
        ValueError: a value out of its range.
    """

    phrase_score: PhraseScore = "mean"
    """How the scores of a phrase's tokens become its score: "mean" or "max"."""
    min_score: float = 0.05
    """Least score of a class, before the centerness; candidates are above it."""
    max_per_level: int = 1000
    """Upper limit of candidates per level, ranked by the product of score and centerness."""
    nms_iou: float = 0.6
    """IoU above which a box suppresses others of its class."""
    max_detections: int = 100
    """Upper limit per image and prompt. The official code also keeps all detections that tie with the last one."""

    def __post_init__(self) -> None:
        check_choice("detections.phrase_score", self.phrase_score, get_args(PhraseScore))
        check_fraction("detections.min_score", self.min_score)
        check_number("detections.max_per_level", self.max_per_level, 1, whole=True)
        check_fraction("detections.nms_iou", self.nms_iou)
        check_number("detections.max_detections", self.max_detections, 1, whole=True)


@dataclass
class LocationCandidates:
    """The candidates of one image and one prompt, before suppression: M pairs of a box and a class."""

    boxes: Tensor
    """(U, 4) float32 x1 y1 x2 y2 with inclusive corners, input frame; they may reach outside the image."""
    rows: Tensor
    """(M,) int64, rows of `boxes`."""
    classes: Tensor
    """(M,) int64, indices into the vocabulary."""
    scores: Tensor
    """(M,) float32 in 0..1, the geometric mean of the class score and the centerness."""


@torch.no_grad()
def find_candidates(
    token_logits: Tensor,
    offsets: Tensor,
    centerness_logits: Tensor,
    anchors: Tensor,
    counts: Sequence[int],
    phrases: Tensor,
    owners: Tensor,
    choice: CandidateChoice = CandidateChoice(),  # noqa: B008  it is frozen
) -> LocationCandidates:
    """Return the candidates of one image and one prompt.

    It needs no size of the original image, so that a head can call it in `forward`: the outputs of every prompt shrink
    to `max_per_level` pairs per level. Scores of classes exist for one level at a time.

    Args:
        token_logits: (N, T) of the tokens of the prompt; columns that belong to no phrase are not read.
        offsets: (N, 4) of boxes from the anchors.
        centerness_logits: (N,).
        anchors: (N, 4) of `location_anchors`.
        counts: locations of each level; their sum is N.
        phrases: (P, T) bool, the tokens of each phrase.
        owners: (P,) int64, the class of each phrase.
        choice: which pairs are candidates.
    """
    parts = (part.split(list(counts)) for part in (token_logits, centerness_logits))
    start = 0
    locations, classes, scores = [], [], []
    for logits, centers in zip(*parts, strict=True):
        named, of_class = class_scores(logits.float().sigmoid(), phrases, owners, choice.phrase_score)  # (n, k)
        row, column, score = _best_of_level(of_class, centers.float().sigmoid(), choice)
        locations.append(row + start)
        classes.append(named.to(column.device)[column])
        scores.append(score)
        start += len(logits)
    used, rows = torch.cat(locations).unique(return_inverse=True)  # (U,), (M,)
    boxes = decode_boxes(offsets[used], anchors[used], BOX_WEIGHTS, inclusive=True)
    return LocationCandidates(boxes, rows, torch.cat(classes), torch.cat(scores).sqrt())


def choose_candidates(
    candidates: LocationCandidates,
    sample: Sample,
    choice: CandidateChoice = CandidateChoice(),  # noqa: B008  it is frozen
) -> DetectionPrediction:
    """Return the detections of one image and one prompt, best first, in its original frame.

    Boxes are clipped to the pixels of the unpadded input, suppressed there within each class, scaled to the original
    image, and converted to edges, in the order of the official code.

    Args:
        candidates: of `find_candidates`.
        sample: its vocabulary's background is not detected.
        choice: how many are kept.
    """
    vocabulary = known(sample.vocabulary, f"vocabulary of sample {sample.sample_id!r}")
    height, width = sample.input_size
    last = candidates.boxes.new_tensor([width - 1, height - 1] * 2)  # (4,)
    boxes = candidates.boxes.clamp(min=0).minimum(last)
    found = _in_original_frame(boxes, sample)  # (U, 4)
    # a box less than a pixel wide may have no area at its original size
    has_area = (found[:, 2:] > found[:, :2]).all(dim=1)[candidates.rows]  # (M,)
    is_object = has_area if vocabulary.background is None else has_area & (candidates.classes != vocabulary.background)
    # only the classes of candidates become columns
    classes, columns = candidates.classes[is_object].unique(return_inverse=True)
    table = candidates.scores.new_zeros(len(boxes), len(classes))
    table[candidates.rows[is_object], columns] = candidates.scores[is_object]
    rows, columns, scores = class_wise_nms(boxes, table, choice.nms_iou, choice.max_detections, inclusive=True)
    return DetectionPrediction(
        found[rows].cpu(), scores.cpu(), classes[columns].cpu(), vocabulary, sample_id=sample.sample_id
    )


def _best_of_level(scores: Tensor, centerness: Tensor, choice: CandidateChoice) -> tuple[Tensor, Tensor, Tensor]:
    """Return rows, columns and products with the centerness (m,) of the best scores (n, k) of one level.

    Candidates are counted by their score alone, and ranked by the product with the centerness (n,).
    """
    index = (scores > choice.min_score).flatten().nonzero()[:, 0]
    products = (scores * centerness[:, None]).flatten()[index]
    best = products.topk(min(choice.max_per_level, len(index)), sorted=False)
    index = index[best.indices]
    return index // max(scores.shape[1], 1), index % max(scores.shape[1], 1), best.values


def _in_original_frame(boxes: Tensor, sample: Sample) -> Tensor:
    """Scale boxes (U, 4) with inclusive corners to the original frame, and convert them to edges within the image."""
    (height, width), (input_height, input_width) = sample.original_size, sample.input_size
    scale = boxes.new_tensor([width / input_width, height / input_height] * 2)  # (4,)
    return edge_corners(boxes * scale).minimum(boxes.new_tensor([width, height] * 2))
