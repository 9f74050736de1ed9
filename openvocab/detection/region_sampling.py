"""Which proposals the second stage learns from, and what each of them is."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torchvision.ops import box_iou

from openvocab.structures import Instances


@dataclass
class SampledRegions:
    """Regions of a batch with their labels."""

    targets: Sequence[Instances]
    """Of each image: its objects."""
    boxes: list[Tensor] = field(default_factory=list)
    """Of each image: (S_i, 4), input frame."""
    objects: list[Tensor] = field(default_factory=list)
    """Of each image: (S_i,) index of the object that the region shows, -1 for background."""
    classes: list[Tensor] = field(default_factory=list)
    """Of each image: (S_i,) class of that object, -1 for background."""


@torch.no_grad()
def sample_regions(
    proposals: Sequence[Tensor],
    targets: Sequence[Instances],
    batch_size_per_image: int = 512,
    positive_fraction: float = 0.25,
    fg_iou_threshold: float = 0.5,
) -> SampledRegions:
    """Draw regions from the proposals of each image and its labeled boxes.

    Args:
        proposals: (N_i, 4) of each image.
        targets: objects of each image; crowds left out.
        batch_size_per_image: regions per image.
        positive_fraction: at most this part of them are foreground.
        fg_iou_threshold: a region is matched with the object of the highest IoU if that is at least this; others are
            background.

    Reference: Fast R-CNN, arXiv 1504.08083, section 2.3.
    """
    sampled = SampledRegions(targets)
    for boxes, target in zip(proposals, targets):
        boxes = torch.cat([boxes, target.boxes.to(boxes)])  # (N, 4)
        objects = match_objects(boxes, target.boxes, fg_iou_threshold)
        chosen = _balanced(objects >= 0, batch_size_per_image, positive_fraction)
        objects = objects[chosen]
        sampled.boxes.append(boxes[chosen])
        sampled.objects.append(objects)
        classes = torch.full_like(objects, -1)
        classes[objects >= 0] = target.classes[objects[objects >= 0]]
        sampled.classes.append(classes)
    return sampled


def match_objects(boxes: Tensor, objects: Tensor, match_iou: float) -> Tensor:
    """Return the (N,) index of the object that each box overlaps most, -1 where by less than `match_iou`."""
    if not len(objects):
        return torch.full((len(boxes),), -1, device=boxes.device)
    overlap, nearest = box_iou(boxes, objects.to(boxes)).max(dim=1)  # (N,)
    return nearest.masked_fill(overlap < match_iou, -1)


def without_crowds(instances: Instances) -> Instances:
    """Leave out crowds, which are no single object."""
    if instances.is_crowd is None or not instances.is_crowd.any():
        return instances
    single = ~instances.is_crowd
    masks = None if instances.masks is None else instances.masks[single]
    return Instances(instances.boxes[single], instances.classes[single], masks)


def _balanced(positive: Tensor, samples: int, positive_share: float) -> Tensor:
    """Draw places of `positive` (N,): as many true ones as `positive_share` allows, then false ones."""
    true, false = positive.nonzero().squeeze(1), (~positive).nonzero().squeeze(1)
    num_true = min(len(true), int(samples * positive_share))
    num_false = min(len(false), samples - num_true)
    return torch.cat([_draw(true, num_true), _draw(false, num_false)])


def _draw(places: Tensor, count: int) -> Tensor:
    return places[torch.randperm(len(places), device=places.device)[:count]]
