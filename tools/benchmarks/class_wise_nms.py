"""Non-maximum suppression per class: every proposal has a score for every class of a large vocabulary."""

from functools import partial

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from benchmarks.comparison import Row, Sides
from openvocab.ops.class_wise_nms import class_wise_nms
from openvocab.structures import Size

IOU_THRESHOLD, MAX_DETECTIONS = 0.5, 300
NEAR_OBJECTS = 0.7
"""Fraction of proposals around an object; the others are anywhere, with low scores."""


def prepare(num_proposals: int = 1000, num_classes: int = 1203, objects: int = 25, device: str = "cpu") -> Sides:
    """Compare with torchvision's `batched_nms` of all pairs of a proposal and a class with a score above 0."""
    proposals = random_proposals(num_proposals, num_classes, objects, size=(800, 1333))
    boxes, scores = (rows.to(device) for rows in proposals)

    @torch.inference_mode()
    def peer() -> Tensor:
        rows, classes = (scores > 0).nonzero(as_tuple=True)
        values = scores[rows, classes]
        keep = batched_nms(boxes[rows], values, classes, IOU_THRESHOLD)[:MAX_DETECTIONS]
        return torch.stack([rows[keep], classes[keep]])

    @torch.inference_mode()
    def ours() -> Tensor:
        rows, classes, _ = class_wise_nms(boxes, scores, IOU_THRESHOLD, MAX_DETECTIONS)
        return torch.stack([rows, classes])

    return Sides(peer, ours, _fraction_of_other_detections)


def random_proposals(num_proposals: int, num_classes: int, objects: int, size: Size) -> tuple[Tensor, Tensor]:
    """Return boxes (N, 4) in clusters and scores (N, K), a softmax; proposals of one object have similar scores."""
    random = torch.Generator().manual_seed(0)
    frame = torch.tensor([size[1], size[0]])
    centers = torch.rand(objects, 2, generator=random) * frame
    sides = (4.5 + 0.7 * torch.randn(objects, 2, generator=random)).exp().clamp(16, 600)
    object_logits = 4 * torch.randn(objects, num_classes, generator=random)
    owner = torch.randint(objects, (num_proposals,), generator=random)
    near = torch.rand(num_proposals, 1, generator=random) < NEAR_OBJECTS
    anywhere = torch.rand(num_proposals, 2, generator=random) * frame
    noise = torch.randn(num_proposals, 4, generator=random)
    center = torch.where(near, centers[owner] + 0.1 * sides[owner] * noise[:, :2], anywhere)
    side = sides[owner] * (0.2 * noise[:, 2:]).exp()
    boxes = torch.cat([center - side / 2, center + side / 2], dim=1)
    boxes = torch.minimum(boxes.clamp(min=0), frame.repeat(2))
    logits = near * object_logits[owner] + torch.randn(num_proposals, num_classes, generator=random)
    return boxes, logits.softmax(1)


def _fraction_of_other_detections(expected: Tensor, got: Tensor) -> float:
    """Return the fraction of the ranks at which box or class differ; both are (2, M)."""
    return 1.0 if expected.shape != got.shape else float((expected != got).any(0).float().mean())


ROWS = (
    Row(
        "class_wise_nms",
        0.02,
        partial(prepare),
        repeats=3,
        note="1000 boxes x 1203 classes, top 300; peer: torchvision",
        on_cuda=True,
    ),
)
