"""Detections of one image and one prompt: the official ones, and candidate by candidate in loops."""

import math

import pytest
import torch
from glip_reference import INPUT_SIZE, MODELS, counts, expected, needs_reference, sample
from torch import Tensor

from openvocab.detection.location_anchors import location_anchors
from openvocab.detection.location_candidates import (
    BOX_WEIGHTS,
    CandidateChoice,
    LocationCandidates,
    choose_candidates,
    find_candidates,
)
from openvocab.structures import DetectionPrediction, Sample
from openvocab.vocabulary.vocabulary import Vocabulary

GRIDS = [(6, 9), (3, 5), (2, 3)]
COUNTS = [height * width for height, width in GRIDS]
ANCHORS = location_anchors(GRIDS, (8, 16, 32), (24, 48, 96))
PHRASES = torch.tensor(
    [[0, 1, 0, 0, 0, 0, 0], [0, 0, 0, 1, 1, 0, 0], [0, 1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1, 1]]
).bool()
OWNERS = torch.tensor([3, 0, 3, 2])
VOCABULARY = Vocabulary.from_names(["cat", "dog", "lamp", "sofa", "bus"])
SAMPLE = Sample("image", VOCABULARY, original_size=(94, 100), input_size=(47, 70), padded_size=(64, 96))


@needs_reference
@pytest.mark.parametrize("model", MODELS)
def test_the_official_detections(model):
    """The post-processing of the official code, with the rule of its CUDA kernel for suppression."""
    outputs = [expected(f"{model}_{name}") for name in ("dot_logits", "bbox_reg", "centerness", "anchors")]
    phrases = expected(f"{model}_positive_map")
    candidates = find_candidates(*outputs, counts(model), phrases, torch.arange(3))
    detections = choose_candidates(candidates, sample())
    boxes, scores, labels = (expected(f"{model}_det_{name}") for name in ("boxes", "scores", "labels"))
    # official boxes are inclusive, official labels start at 1
    boxes = boxes + torch.tensor([0, 0, 1, 1])
    assert len(detections.boxes) == len(boxes)
    distance = (boxes[:, None] - detections.boxes).abs().amax(-1)  # (official, ours)
    distance[labels[:, None] - 1 != detections.classes] = torch.inf
    nearest, index = distance.min(dim=1)
    assert nearest.max() < 1e-3
    assert len(index.unique()) == len(index)
    torch.testing.assert_close(detections.scores[index], scores, atol=1e-6, rtol=1e-5)


@needs_reference
def test_the_official_detections_need_the_official_frame():
    """Boxes of the reference are clipped to the last pixel, not to the edge of the image."""
    height, width = INPUT_SIZE
    assert expected("a_det_boxes").amax(0)[2:].tolist() == [width - 1, height - 1]


def raw_outputs(seed: int, spread: float = 0.4) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    count = len(ANCHORS)
    logits = 2 * torch.randn(count, 7, generator=generator) - 1
    offsets = spread * torch.randn(count, 4, generator=generator) * torch.tensor(BOX_WEIGHTS)
    return logits, offsets, torch.randn(count, generator=generator)


def detect(
    outputs: tuple[Tensor, Tensor, Tensor], choice: CandidateChoice, one: Sample = SAMPLE
) -> DetectionPrediction:
    return choose_candidates(find_candidates(*outputs, ANCHORS, COUNTS, PHRASES, OWNERS, choice), one, choice)


def detect_in_loops(outputs: tuple[Tensor, Tensor, Tensor], choice: CandidateChoice) -> list[tuple]:
    """(score, class, box) of the detections of SAMPLE, best first."""
    logits, offsets, centers = (part.double().tolist() for part in outputs)
    (height, width), (original_height, original_width) = SAMPLE.input_size, SAMPLE.original_size
    candidates, start = [], 0
    for count in COUNTS:
        of_level = []
        for row in range(start, start + count):
            of_class: dict[int, float] = {}
            for phrase, owner in zip(PHRASES.tolist(), OWNERS.tolist()):
                tokens = [sigmoid(logits[row][token]) for token in range(7) if phrase[token]]
                score = max(tokens) if choice.phrase_score == "max" else sum(tokens) / len(tokens)
                of_class[owner] = max(score, of_class.get(owner, 0))
            for label, score in of_class.items():
                if score > choice.min_score:
                    of_level.append((score * sigmoid(centers[row]), label, row))
        candidates += sorted(of_level, reverse=True)[: choice.max_per_level]
        start += count
    kept: list[tuple] = []
    for product, label, row in sorted(candidates, reverse=True):
        x1, y1, x2, y2 = decoded(offsets[row], ANCHORS[row].double().tolist())
        box = [clipped(x1, width), clipped(y1, height), clipped(x2, width), clipped(y2, height)]
        if all(label != other or iou(box, other_box) <= choice.nms_iou for _, other, other_box in kept):
            kept.append((math.sqrt(product), label, box))
    across, down = original_width / width, original_height / height
    return [
        (score, label, [x1 * across, y1 * down, x2 * across + 1, y2 * down + 1])
        for score, label, (x1, y1, x2, y2) in kept[: choice.max_detections]
    ]


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def clipped(coordinate: float, length: int) -> float:
    return min(max(coordinate, 0), length - 1)


def decoded(offsets: list[float], anchor: list[float]) -> tuple[float, ...]:
    corners = []
    for axis in (0, 1):
        size = anchor[axis + 2] - anchor[axis] + 1
        middle = (anchor[axis] + anchor[axis + 2]) / 2 + offsets[axis] / 10 * size
        size *= math.exp(min(offsets[axis + 2] / 5, math.log(1000 / 16)))
        corners.append((middle - (size - 1) / 2, middle + (size - 1) / 2))
    (x1, x2), (y1, y2) = corners
    return x1, y1, x2, y2


def iou(box: list[float], other: list[float]) -> float:
    width = max(0, min(box[2], other[2]) - max(box[0], other[0]) + 1)
    height = max(0, min(box[3], other[3]) - max(box[1], other[1]) + 1)
    areas = [(b[2] - b[0] + 1) * (b[3] - b[1] + 1) for b in (box, other)]
    return width * height / (sum(areas) - width * height)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"phrase_score": "max"},
        {"min_score": 0.5},
        {"max_per_level": 7},
        {"nms_iou": 0.2},
        {"nms_iou": 1.0, "max_detections": 1000},
        {"max_detections": 3},
    ],
    ids=str,
)
@pytest.mark.parametrize("seed", range(3))
def test_equals_loops_over_locations_and_classes(seed, changes):
    outputs, choice = raw_outputs(seed), CandidateChoice(**changes)
    got, by_loops = detect(outputs, choice), detect_in_loops(outputs, choice)
    scores, classes, boxes = zip(*by_loops)
    assert got.classes.tolist() == list(classes)
    torch.testing.assert_close(got.scores, torch.tensor(scores), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(got.boxes, torch.tensor(boxes), atol=1e-3, rtol=1e-5)
    assert got.classes.dtype == torch.int64


def test_detections_are_inside_the_original_image():
    boxes = detect(raw_outputs(0, spread=3.0), CandidateChoice()).boxes
    assert boxes.min() >= 0
    assert boxes[:, 2].max() <= 100
    assert boxes[:, 3].max() <= 94
    assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_candidates_do_not_depend_on_columns_outside_of_phrases_or_on_sizes():
    outputs = raw_outputs(1)
    padded = torch.cat([outputs[0], torch.full((len(ANCHORS), 3), float("inf"))], dim=1)
    phrases = torch.cat([PHRASES, torch.zeros(4, 3, dtype=torch.bool)], dim=1)
    found = find_candidates(padded, *outputs[1:], ANCHORS, COUNTS, phrases, OWNERS)
    alone = find_candidates(*outputs, ANCHORS, COUNTS, PHRASES, OWNERS)
    for name in ("boxes", "rows", "classes", "scores"):
        assert torch.equal(getattr(found, name), getattr(alone, name))


def test_the_order_of_phrases_does_not_matter():
    outputs, order = raw_outputs(2), [2, 3, 1, 0]
    found = find_candidates(*outputs, ANCHORS, COUNTS, PHRASES[order], OWNERS[order])
    one, other = choose_candidates(found, SAMPLE), detect(outputs, CandidateChoice())
    assert torch.equal(one.classes, other.classes)
    torch.testing.assert_close(one.boxes, other.boxes)


def test_candidates_are_counted_by_their_score_and_ranked_with_the_centerness():
    """The best score has a low centerness: it is a candidate, but not one of the best."""
    logits, offsets, centers = (
        torch.full((len(ANCHORS), 7), -9.0),
        torch.zeros(len(ANCHORS), 4),
        torch.zeros(len(ANCHORS)),
    )
    logits[:3, 3:5] = torch.tensor([[3.0], [1.0], [0.0]])
    centers[:3] = torch.tensor([-4.0, 2.0, 2.0])
    (first,) = {
        row
        for row in find_candidates(
            logits, offsets, centers, ANCHORS, COUNTS, PHRASES, OWNERS, CandidateChoice(max_per_level=1)
        ).scores.tolist()
    }
    assert first == pytest.approx(math.sqrt(sigmoid(1) * sigmoid(2)), abs=1e-6)


def test_nothing_above_the_score_is_no_detection():
    logits, offsets, centers = raw_outputs(0)
    got = detect((logits - 100, offsets, centers), CandidateChoice())
    assert got.boxes.shape == (0, 4)
    assert got.scores.shape == got.classes.shape == (0,)


def test_the_background_is_not_detected():
    vocabulary = Vocabulary.from_names(["cat", "dog", "lamp", "sofa", "bus"], background="sofa")
    one = Sample("image", vocabulary, SAMPLE.original_size, SAMPLE.input_size)
    all_classes = detect(raw_outputs(0), CandidateChoice(max_detections=1000))
    got = detect(raw_outputs(0), CandidateChoice(max_detections=1000), one)
    assert 3 in all_classes.classes
    assert torch.equal(got.scores, all_classes.scores[all_classes.classes != 3])


def test_a_box_that_vanishes_at_the_original_size_is_not_detected():
    """A box a tenth of a pixel wide, in an image that was halved: 1 - 2 * 0.9 pixels remain."""
    boxes = torch.tensor([[10.0, 10, 9.1, 20], [10, 10, 30, 30]])
    candidates = LocationCandidates(boxes, torch.tensor([0, 1]), torch.tensor([0, 0]), torch.tensor([0.9, 0.8]))
    assert choose_candidates(candidates, SAMPLE).scores.tolist() == pytest.approx([0.8])


def test_half_precision_outputs_give_the_same_candidates_up_to_rounding():
    outputs = raw_outputs(3)
    rounded = tuple(part.bfloat16() for part in outputs)
    exact = tuple(part.bfloat16().float() for part in outputs)
    one, other = (detect(part, CandidateChoice()) for part in (rounded, exact))
    assert torch.equal(one.boxes, other.boxes)
    assert torch.equal(one.scores, other.scores)


def test_memory_is_bounded_for_a_long_prompt():
    """80 classes in 250 tokens at 1,000 locations: no array of all classes and tokens (80 MB) exists."""
    phrases = torch.eye(80, dtype=torch.bool).repeat_interleave(3, dim=1)  # (80, 240)
    anchors = location_anchors([(25, 40)], [8], [64])
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        find_candidates(
            torch.randn(1000, 240), torch.zeros(1000, 4), torch.zeros(1000), anchors, [1000], phrases, torch.arange(80)
        )
    assert max(event.cpu_memory_usage for event in profile.events()) < 4e6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"phrase_score": "onehot"}, "detections.phrase_score: expected one of mean, max, got 'onehot'"),
        ({"min_score": 1.5}, "detections.min_score: expected a number from 0 to 1"),
        ({"max_per_level": 0}, "detections.max_per_level: expected a whole number of at least 1"),
        ({"nms_iou": -1}, "detections.nms_iou"),
        ({"max_detections": 2.5}, "detections.max_detections"),
    ],
)
def test_bad_choices_are_named(changes, message):
    with pytest.raises(ValueError, match=message):
        CandidateChoice(**changes)
