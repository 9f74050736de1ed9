"""Class-wise suppression against torchvision's, class by class over all candidates."""

import pytest
import torch
from torch import Tensor
from torchvision.ops import batched_nms, nms

from openvocab.ops import class_wise_nms as module
from openvocab.ops.class_wise_nms import class_wise_nms

Detections = tuple[Tensor, Tensor, Tensor]


def reference(boxes: Tensor, scores: Tensor, iou_threshold: float, max_detections: int, min_score=0.0) -> Detections:
    kept = []
    for label in range(scores.shape[1]):
        rows = (scores[:, label] > min_score).nonzero()[:, 0]
        rows = rows[nms(boxes[rows], scores[rows, label], iou_threshold)]
        kept += [(-scores[row, label].item(), row, label) for row in rows.tolist()]
    best = sorted(kept)[:max_detections]
    rows, classes = (torch.tensor([entry[i] for entry in best], dtype=torch.int64) for i in (1, 2))
    return rows, classes, scores[rows, classes]


def clustered(
    count: int, num_classes: int, clusters: int = 3, side: float = 30.0, seed: int = 0
) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    center = side * 10 * torch.rand(clusters, 2, generator=random)
    center = center[torch.randint(clusters, (count,), generator=random)]
    center = center + 0.2 * side * torch.randn(count, 2, generator=random)
    sides = side * (0.3 * torch.randn(count, 2, generator=random)).exp()
    boxes = torch.cat([center - sides / 2, center + sides / 2], dim=1)
    return boxes, (2 * torch.randn(count, num_classes, generator=random)).softmax(1)


def assert_equal(got: Detections, expected: Detections) -> None:
    for one, other in zip(got, expected, strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


@pytest.mark.parametrize("first_group", [1, 20])
@pytest.mark.parametrize("max_detections", [1, 7, 100, 10**6])
@pytest.mark.parametrize("iou_threshold", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("shape", [(60, 1), (50, 5), (40, 30), (1, 40)], ids=str)
def test_equals_torchvision_over_all_candidates(monkeypatch, shape, iou_threshold, max_detections, first_group):
    monkeypatch.setattr(module, "FIRST_GROUP", first_group)
    boxes, scores = clustered(*shape)
    expected = reference(boxes, scores, iou_threshold, max_detections)
    assert_equal(class_wise_nms(boxes, scores, iou_threshold, max_detections), expected)


def test_equals_batched_nms_of_many_candidates():
    boxes, scores = clustered(300, 200, clusters=10)
    rows, classes = (scores > 0).nonzero(as_tuple=True)
    best = batched_nms(boxes[rows], scores[rows, classes], classes, 0.5)[:300]
    got = class_wise_nms(boxes, scores, 0.5, 300)
    assert_equal(got, (rows[best], classes[best], scores[rows[best], classes[best]]))


@pytest.mark.parametrize("levels", [1, 2, 9])
@pytest.mark.parametrize("max_detections", [1, 10, 60, 10**6])
def test_equal_scores_keep_the_order_of_rows_then_classes(monkeypatch, levels, max_detections):
    monkeypatch.setattr(module, "FIRST_GROUP", 1)
    boxes, _ = clustered(50, 1)
    scores = torch.randint(1, levels + 1, (50, 6), generator=torch.Generator().manual_seed(1)) / levels
    expected = reference(boxes, scores, 0.5, max_detections)
    assert_equal(class_wise_nms(boxes, scores, 0.5, max_detections), expected)


@pytest.mark.parametrize("min_score", [0.0, 0.05, 0.25, 2.0])
def test_only_scores_above_the_least_are_candidates(min_score):
    boxes, scores = clustered(40, 8)
    scores[::2, 3:] = 0
    scores[1, 1] = 0.25
    got = class_wise_nms(boxes, scores, 0.5, 1000, min_score)
    assert_equal(got, reference(boxes, scores, 0.5, 1000, min_score))
    assert (got[2] > min_score).all()


def test_boxes_far_from_the_origin_keep_their_small_differences():
    """An offset for each class would round them away: 1203 classes x 100 000 pixels leave a step of 8 pixels."""
    boxes, scores = clustered(60, 1203, side=3)
    boxes = boxes + 100_000
    assert_equal(class_wise_nms(boxes, scores, 0.5, 400), reference(boxes, scores, 0.5, 400))


def test_boxes_without_area_are_kept():
    boxes = torch.tensor([[5, 5, 5, 9], [5, 5, 5, 9], [0, 0, 10, 10], [4, 4, 2, 2], [0, 0, 10, 9.5]])
    scores = torch.tensor([[0.5], [0.4], [0.9], [0.3], [0.2]])
    rows, classes, _ = class_wise_nms(boxes, scores, 0.5, 10)
    assert rows.tolist() == [2, 0, 1, 3]
    assert classes.tolist() == [0, 0, 0, 0]
    assert_equal(class_wise_nms(boxes, scores, 0.5, 10), reference(boxes, scores, 0.5, 10))


def test_no_candidate_is_looked_at_twice(monkeypatch):
    monkeypatch.setattr(module, "FIRST_GROUP", 1)
    boxes = torch.tensor([[0, 0, 10, 10.0]] * 4 + [[5, 5, 5, 5]] * 3)  # points do not suppress themselves
    scores = torch.linspace(0.9, 0.3, 7)[:, None]
    assert class_wise_nms(boxes, scores, 0.5, 5)[0].tolist() == [0, 4, 5, 6]


@pytest.mark.parametrize("tenths", range(1, 10))
def test_overlap_of_exactly_the_threshold_is_judged_as_in_torchvision(tenths):
    """3 / 10 in float32 is above 0.3 in float64."""
    boxes = torch.tensor([[0, 0, 10, 1], [0, 0, tenths, 1.0]])
    scores = torch.tensor([[0.9], [0.8]])
    assert_equal(class_wise_nms(boxes, scores, tenths / 10, 10), reference(boxes, scores, tenths / 10, 10))


def test_classes_do_not_suppress_each_other_and_a_chain_is_broken_by_its_first():
    boxes = torch.tensor([[0, 0, 10, 10], [0, 3, 10, 13], [0, 6, 10, 16.0]])  # neighbors overlap by 7 / 13
    scores = torch.tensor([[0.9, 0.1], [0.8, 0.7], [0.6, 0.0]])
    rows, classes, kept_scores = class_wise_nms(boxes, scores, 0.5, 10)
    assert rows.tolist() == [0, 1, 2]
    assert classes.tolist() == [0, 1, 0]
    assert kept_scores.tolist() == pytest.approx([0.9, 0.7, 0.6])


def test_permuted_classes_give_permuted_detections():
    boxes, scores = clustered(80, 12)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(3))
    rows, classes, _ = class_wise_nms(boxes, scores, 0.5, 30)
    other_rows, other_classes, _ = class_wise_nms(boxes, scores[:, order], 0.5, 30)
    assert torch.equal(rows, other_rows)
    assert torch.equal(classes, order[other_classes])


@pytest.mark.parametrize("shape", [(0, 3), (4, 0), (0, 0)], ids=str)
def test_nothing_to_choose_from_gives_nothing(shape):
    rows, classes, scores = class_wise_nms(torch.zeros(shape[0], 4), torch.zeros(shape), 0.5, 10)
    assert rows.shape == classes.shape == scores.shape == (0,)
    assert rows.dtype == classes.dtype == torch.int64


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes": torch.zeros(3, 5)}, r"boxes: expected \(N, 4\)"),
        ({"scores": torch.zeros(3)}, r"scores: expected \(2, K\), got \(3,\)"),
        ({"scores": torch.zeros(3, 2)}, r"scores: expected \(2, K\)"),
        ({"iou_threshold": 1.5}, "iou_threshold: expected 0..1"),
        ({"max_detections": 0}, "max_detections: expected at least 1"),
        ({"boxes": torch.tensor([[0, 0, 1, 1], [0, 0, float("nan"), 1]])}, "boxes: expected finite"),
        ({"scores": torch.tensor([[0.5], [float("nan")]])}, "scores: expected numbers, got NaN"),
    ],
)
def test_bad_arguments_are_named(change, message):
    arguments = {"boxes": torch.zeros(2, 4), "scores": torch.zeros(2, 1), "iou_threshold": 0.5, "max_detections": 3}
    with pytest.raises(ValueError, match=message):
        class_wise_nms(**{**arguments, **change})


@pytest.mark.parametrize("iou_threshold", [0.3, 0.5, 0.6])
def test_inclusive_corners_overlap_by_their_last_pixels(iou_threshold):
    boxes, scores = clustered(80, 6, side=4)
    pixels = torch.cat([boxes[:, :2], boxes[:, 2:] - 1], dim=1)
    got = class_wise_nms(pixels, scores, iou_threshold, 400, inclusive=True)
    edges = class_wise_nms(boxes, scores, iou_threshold, 400)
    assert_equal(got, edges)
    # small boxes: without the pixel, others would be suppressed
    assert len(class_wise_nms(pixels, scores, iou_threshold, 400)[0]) != len(edges[0])


def test_equal_pixels_suppress_each_other():
    boxes, scores = torch.tensor([[5.0, 5, 5, 5]] * 2), torch.tensor([[0.9], [0.8]])
    assert class_wise_nms(boxes, scores, 0.5, 10, inclusive=True)[0].tolist() == [0]
    assert class_wise_nms(boxes, scores, 0.5, 10)[0].tolist() == [0, 1]
