"""Losses of the boxes that positive locations predict: their overlap, and how central the location is."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import generalized_box_iou_loss

from openvocab.losses.chunked_sum import at_least_float32
from openvocab.losses.distributed_batch import joint_ratio, rank_count

LEAST_CENTERNESS = 1e-6
"""Least sum of centernesses per rank that the box loss is divided by; without positive locations 0 / 0 would be NaN."""


def centered_giou(boxes: Tensor, targets: Tensor, centerness: Tensor, *, gather: bool = True) -> Tensor:
    """Return the mean generalized IoU loss of boxes, weighted by the centerness of their locations.

    With several ranks (`gather`) the mean is that over all ranks, and the gradient is that of one process with the
    joint batch (see `joint_loss`).

    Args:
        boxes: (P, 4) x1 y1 x2 y2, predicted by positive locations; x2 < x1 counts as x2 = x1.
        targets: (P, 4) the boxes of their objects. Sizes are x2 - x1 here, whatever frame the corners are in, as in
            the official code.
        centerness: (P,) in 0..1, target centerness of the locations.
        gather: whether the ranks' batches are one.

    Returns:
        () float32; 0 without locations, with a gradient of 0.

    Reference: generalized IoU, arXiv 1902.09630; weighted as in FCOS and official GLIP.
    """
    with torch.autocast(boxes.device.type, enabled=False):
        boxes, targets, centerness = at_least_float32(boxes, targets, centerness)
        first, last = boxes[:, :2], boxes[:, 2:]
        boxes = torch.cat([first, torch.maximum(first, last)], dim=1)  # (P, 4)
        total = (generalized_box_iou_loss(boxes, targets) * centerness).sum()
        return joint_ratio(total, centerness.sum(), LEAST_CENTERNESS, rank_count(gather))


def centerness_cross_entropy(logits: Tensor, centerness: Tensor, *, gather: bool = True) -> Tensor:
    """Return the mean binary cross entropy of centernesses.

    Args:
        logits: (P,) of positive locations.
        centerness: (P,) in 0..1, their targets.
        gather: as in `centered_giou`.

    Returns:
        () float32; 0 without locations, with a gradient of 0.

    Reference: FCOS, arXiv 1904.01355.
    """
    with torch.autocast(logits.device.type, enabled=False):
        logits, centerness = at_least_float32(logits, centerness)
        total = F.binary_cross_entropy_with_logits(logits, centerness, reduction="sum")
        count = torch.tensor(len(logits), device=logits.device)
        return joint_ratio(total, count, 1.0, rank_count(gather))
