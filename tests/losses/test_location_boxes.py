"""Losses of boxes at locations: the official values, box by box in loops, and without any location."""

import math

import pytest
import torch
from glip_reference import GT_BOXES, MODELS, expected, needs_reference
from torch import Tensor

from openvocab.detection.box_coding import decode_boxes
from openvocab.detection.location_candidates import BOX_WEIGHTS
from openvocab.detection.location_targets import centerness, match_locations
from openvocab.losses import centered_giou, centerness_cross_entropy


def boxes_and_targets(count: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    parts = []
    for _ in range(2):
        corners = 50 * torch.rand(count, 2, generator=generator)
        parts.append(torch.cat([corners, corners + 5 + 40 * torch.rand(count, 2, generator=generator)], dim=1))
    return parts[0], parts[1], torch.rand(count, generator=generator)


def giou(box: list[float], other: list[float]) -> float:
    def area(x1: float, y1: float, x2: float, y2: float) -> float:
        return max(0, x2 - x1) * max(0, y2 - y1)

    first, last = [max(pair) for pair in zip(box[:2], other[:2])], [min(pair) for pair in zip(box[2:], other[2:])]
    hull = [min(pair) for pair in zip(box[:2], other[:2])] + [max(pair) for pair in zip(box[2:], other[2:])]
    shared = area(*first, *last)
    union = area(*box) + area(*other) - shared
    return shared / union - (area(*hull) - union) / area(*hull)


@needs_reference
@pytest.mark.parametrize("model", MODELS)
def test_the_official_losses(model):
    anchors, positive = expected(f"{model}_anchors"), expected(f"{model}_positive_locations")
    counts = expected(f"{model}_locations").prod(1).tolist()
    targets = GT_BOXES[match_locations(anchors, counts, GT_BOXES)[positive]]
    centers = centerness(anchors[positive], targets)
    boxes = decode_boxes(expected(f"{model}_bbox_reg")[positive], anchors[positive], BOX_WEIGHTS, inclusive=True)
    box_loss = 2.0 * centered_giou(boxes, targets, centers)
    center_loss = centerness_cross_entropy(expected(f"{model}_centerness")[positive], centers)
    assert box_loss.item() == pytest.approx(expected(f"{model}_loss_reg").item(), rel=1e-5)
    assert center_loss.item() == pytest.approx(expected(f"{model}_loss_centerness").item(), rel=1e-5)


def test_the_box_loss_equals_a_weighted_mean_in_loops():
    boxes, targets, weights = boxes_and_targets()
    losses = [1 - giou(*pair) for pair in zip(boxes.tolist(), targets.tolist())]
    mean = sum(loss * weight for loss, weight in zip(losses, weights.tolist())) / weights.sum().item()
    assert centered_giou(boxes, targets, weights).item() == pytest.approx(mean, rel=1e-5)


def test_a_box_turned_inside_out_counts_as_a_line():
    target, weight = torch.tensor([[0.0, 0, 10, 10]]), torch.ones(1)
    crossed, line = torch.tensor([[4.0, 0, 1, 10]]), torch.tensor([[4.0, 0, 4, 10]])
    assert torch.equal(centered_giou(crossed, target, weight), centered_giou(line, target, weight))
    assert centered_giou(line, target, weight).item() == pytest.approx(1)


def test_the_centerness_loss_by_hand():
    logits, targets = torch.tensor([0.0, 2.0]), torch.tensor([0.25, 1.0])
    mean = (math.log(2) + math.log(1 + math.exp(-2))) / 2
    assert centerness_cross_entropy(logits, targets).item() == pytest.approx(mean)


def test_no_location_gives_zero_with_a_gradient():
    offsets = torch.randn(6, 4, requires_grad=True)
    logits = torch.randn(6, requires_grad=True)
    nothing = torch.zeros(6, dtype=torch.bool)
    box_loss = centered_giou(offsets[nothing], torch.zeros(0, 4), torch.zeros(0))
    center_loss = centerness_cross_entropy(logits[nothing], torch.zeros(0))
    assert box_loss.item() == center_loss.item() == 0
    (box_loss + center_loss).backward()
    assert torch.equal(offsets.grad, torch.zeros(6, 4))
    assert torch.equal(logits.grad, torch.zeros(6))


def test_lower_precision_is_computed_in_float32():
    boxes, targets, weights = boxes_and_targets()
    loss = centered_giou(boxes.bfloat16(), targets, weights)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, centered_giou(boxes.bfloat16().float(), targets, weights))
    assert centerness_cross_entropy(weights.bfloat16(), weights).dtype == torch.float32


def test_gradients_are_right():
    boxes, targets, weights = (part.double() for part in boxes_and_targets(4))
    assert torch.autograd.gradcheck(lambda x: centered_giou(x, targets, weights), boxes.requires_grad_())
