"""Samples of proposals for the losses of the second stage, matched with labeled objects."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torchvision.ops import box_iou

from openvocab.argument_checks import check_fraction, check_number
from openvocab.structures import Instances


@dataclass(frozen=True)
class SamplingOptions:
    """Which regions enter the losses of the second stage."""

    batch_size_per_image: int = 512
    """Regions per image."""
    positive_fraction: float = 0.25
    """At most this part of them are foreground."""
    fg_iou_threshold: float = 0.5
    """A region is matched with the object of the highest IoU if that is at least this; others are background."""

    def __post_init__(self) -> None:
        check_number("sampling.batch_size_per_image", self.batch_size_per_image, 1, whole=True)
        check_fraction("sampling.positive_fraction", self.positive_fraction)
        check_fraction("sampling.fg_iou_threshold", self.fg_iou_threshold)


@dataclass
class SampledRegions:
    """Sampled regions of a batch, matched with objects."""

    targets: Sequence[Instances]
    """Of each image: its labeled objects."""
    boxes: list[Tensor] = field(default_factory=list)
    """Of each image: (S_i, 4), input frame."""
    objects: list[Tensor] = field(default_factory=list)
    """Of each image: (S_i,) index of the matched object, -1 for background."""
    classes: list[Tensor] = field(default_factory=list)
    """Of each image: (S_i,) class of the matched object, -1 for background."""


@torch.no_grad()
def sample_regions(
    proposals: Sequence[Tensor],
    targets: Sequence[Instances],
    options: SamplingOptions = SamplingOptions(),  # noqa: B008  it is frozen
) -> SampledRegions:
    """Sample regions from the proposals of each image and its labeled boxes.

    Args:
        proposals: (N_i, 4) of each image, input frame.
        targets: objects of each image without crowds, input frame.
        options: how many, and what is foreground.

    Returns:
        For each image S_i boxes (S_i, 4), input frame, and the index and the class of their objects, (S_i,) each.

    Reference: Fast R-CNN, arXiv 1504.08083, section 2.3.
    """
    sampled = SampledRegions(targets)
    for boxes, target in zip(proposals, targets):
        # labeled boxes are proposals too: at first no other one overlaps an object enough
        boxes = torch.cat([boxes, target.boxes.to(boxes)])  # (N, 4)
        objects = match_objects(boxes, target.boxes, options.fg_iou_threshold)
        rows = _balanced(objects >= 0, options.batch_size_per_image, options.positive_fraction)
        objects = objects[rows]  # (S,)
        sampled.boxes.append(boxes[rows])
        sampled.objects.append(objects)
        classes = torch.full_like(objects, -1)
        # masked: -1, the background, would take the class of the last object
        classes[objects >= 0] = target.classes[objects[objects >= 0]]
        sampled.classes.append(classes)
    return sampled


def match_objects(boxes: Tensor, objects: Tensor, iou_threshold: float) -> Tensor:
    """Match boxes with the objects that they overlap most.

    Args:
        boxes: (N, 4).
        objects: (O, 4), their boxes.
        iou_threshold: least IoU of a match.

    Returns:
        (N,) int64 index of the object, -1 for a box without a match.
    """
    if not len(objects):
        return torch.full((len(boxes),), -1, device=boxes.device)
    overlap, nearest = box_iou(boxes, objects.to(boxes)).max(dim=1)  # (N,)
    return nearest.masked_fill(overlap < iou_threshold, -1)


def without_crowds(instances: Instances) -> Instances:
    """Return the objects (N of O) that are not crowds; a crowd has neither one box nor one mask."""
    if instances.is_crowd is None or not instances.is_crowd.any():
        return instances
    single = ~instances.is_crowd
    masks = None if instances.masks is None else instances.masks[single]
    return Instances(instances.boxes[single], instances.classes[single], masks)


def _balanced(foreground: Tensor, count: int, positive_fraction: float) -> Tensor:
    """Draw up to `count` indices of `foreground` (N,) bool: as many true ones as allowed, the rest false ones."""
    positives, negatives = foreground.nonzero().squeeze(1), (~foreground).nonzero().squeeze(1)
    # if there are few positives, negatives fill up the sample
    num_positives = min(len(positives), int(count * positive_fraction))
    num_negatives = min(len(negatives), count - num_positives)
    return torch.cat([_draw(positives, num_positives), _draw(negatives, num_negatives)])


def _draw(indices: Tensor, count: int) -> Tensor:
    """Return `count` random elements of `indices` (N,), without repetition."""
    return indices[torch.randperm(len(indices), device=indices.device)[:count]]
