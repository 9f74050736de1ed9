"""ATSS: the official assignment, and object by object in loops."""

import math
import statistics

import pytest
import torch
from detection_parts import make_boxes
from glip_reference import ANCHOR_SIZES, GT_BOXES, MODELS, STRIDES, counts, expected, needs_reference
from torch import Tensor

from openvocab.detection.box_coding import encode_boxes
from openvocab.detection.location_anchors import location_anchors
from openvocab.detection.location_candidates import BOX_WEIGHTS
from openvocab.detection.location_targets import centerness, match_locations

GRIDS = [(12, 16), (6, 8), (3, 4), (2, 2), (1, 1)]
COUNTS = [height * width for height, width in GRIDS]
ANCHORS = location_anchors(GRIDS, STRIDES, [4 * stride for stride in STRIDES])


@needs_reference
@pytest.mark.parametrize("model", MODELS)
def test_official_positives_and_their_offsets(model):
    anchors = expected(f"{model}_anchors")
    matches = match_locations(anchors, counts(model), GT_BOXES)
    positive = (matches >= 0).nonzero()[:, 0]
    assert torch.equal(positive, expected(f"{model}_positive_locations"))
    offsets = encode_boxes(GT_BOXES[matches[positive]], anchors[positive], BOX_WEIGHTS, inclusive=True)
    torch.testing.assert_close(offsets, expected(f"{model}_reg_targets"), atol=1e-6, rtol=1e-6)


def iou(box: list[float], other: list[float]) -> float:
    """Of inclusive corners, pixel by pixel along each side."""
    width = max(0, min(box[2], other[2]) - max(box[0], other[0]) + 1)
    height = max(0, min(box[3], other[3]) - max(box[1], other[1]) + 1)
    areas = [(b[2] - b[0] + 1) * (b[3] - b[1] + 1) for b in (box, other)]
    return width * height / (sum(areas) - width * height)


def matches_in_loops(anchors: Tensor, counts: list[int], boxes: Tensor, per_level: int) -> list[int]:
    best = [(0.0, -1)] * len(anchors)
    for index, box in enumerate(boxes.double().tolist()):
        candidates, start = [], 0
        for count in counts:
            rows = list(range(start, start + count))
            rows.sort(key=lambda row: math.dist(center(anchors[row].tolist()), center(box)))
            candidates += rows[:per_level]
            start += count
        overlaps = [iou(anchors[row].double().tolist(), box) for row in candidates]
        threshold = statistics.mean(overlaps) + statistics.stdev(overlaps)
        for row, overlap in zip(candidates, overlaps):
            x, y = center(anchors[row].tolist())
            is_inside = min(x - box[0], y - box[1], box[2] - x, box[3] - y) > 0.01
            if overlap >= threshold and is_inside and overlap > best[row][0]:
                best[row] = overlap, index
    return [index for _, index in best]


def center(box: list[float]) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


@pytest.mark.parametrize("per_level", [1, 4, 9])
@pytest.mark.parametrize("seed", range(4))
def test_equals_loops_over_objects_and_candidates(seed, per_level):
    """Many objects in a small image, so that several claim the same locations; no two distances are equal."""
    boxes = make_boxes(25, (96, 128), seed, (6, 60))
    boxes = boxes + torch.rand(boxes.shape, generator=torch.Generator().manual_seed(seed))
    matches = match_locations(ANCHORS, COUNTS, boxes, per_level)
    assert matches.tolist() == matches_in_loops(ANCHORS, COUNTS, boxes, per_level)
    assert matches.dtype == torch.int64
    assert len(matches.unique()) > 5


def test_a_location_that_two_objects_claim_belongs_to_the_one_it_overlaps_more():
    one, other = torch.tensor([[40.0, 40, 71, 71]]), torch.tensor([[43.0, 41, 75, 71]])
    claimed = (match_locations(ANCHORS, COUNTS, one) >= 0) & (match_locations(ANCHORS, COUNTS, other) >= 0)
    assert claimed.any()
    matches = match_locations(ANCHORS, COUNTS, torch.cat([one, other]))
    for row in claimed.nonzero()[:, 0].tolist():
        overlaps = [iou(ANCHORS[row].tolist(), box.tolist()) for box in (one[0], other[0])]
        assert matches[row] == overlaps.index(max(overlaps))


def test_the_first_of_equal_objects_takes_the_locations():
    box = torch.tensor([[40.0, 40, 71, 71]])
    alone = match_locations(ANCHORS, COUNTS, box)
    assert torch.equal(match_locations(ANCHORS, COUNTS, box.repeat(3, 1)), alone)


def test_an_image_without_objects_has_negative_locations_only():
    matches = match_locations(ANCHORS, COUNTS, torch.zeros(0, 4))
    assert matches.tolist() == [-1] * len(ANCHORS)
    assert matches.dtype == torch.int64


def test_an_object_of_one_pixel_has_no_location():
    """Its sides are one and the same coordinate: no center is inside it."""
    assert match_locations(ANCHORS, COUNTS, torch.tensor([[11.5, 11.5, 11.5, 11.5]])).max() == -1


def test_a_pyramid_of_one_location_finds_an_object_around_its_center():
    anchors = location_anchors([(1, 1)], [8], [16])
    assert match_locations(anchors, [1], torch.tensor([[-4.0, -4, 12, 12]])).tolist() == [0]


def test_memory_does_not_grow_with_all_pairs_of_locations_and_objects():
    grids = [(100, 168), (50, 84), (25, 42), (13, 21), (7, 11)]
    anchors = location_anchors(grids, STRIDES, ANCHOR_SIZES)
    boxes = make_boxes(200, (800, 1333), 0, (10, 400))
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        matches = match_locations(anchors, [height * width for height, width in grids], boxes)
    assert (matches >= 0).sum() > 200
    # the distances of the finest level alone
    assert max(event.cpu_memory_usage for event in profile.events()) <= 4 * grids[0][0] * grids[0][1] * len(boxes)


def test_centerness_by_hand():
    anchors = torch.tensor([[-10.0, 0, 30, 40]]).repeat(2, 1)  # center (10, 20)
    boxes = torch.tensor([[8.0, 15, 18, 40], [0, 10, 20, 30]])  # left 2, right 8; top 5, bottom 20
    assert centerness(anchors, boxes).tolist() == pytest.approx([math.sqrt(2 / 8 * 5 / 20), 1])
