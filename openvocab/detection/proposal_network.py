"""Class-agnostic proposals from anchors."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, cast, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.rpn import (
    AnchorGenerator,
    RegionProposalNetwork,
    RPNHead,
    concat_box_prediction_layers,
)

from openvocab.argument_checks import check_choice, check_fraction, check_number, check_numbers
from openvocab.detection.norms import norm_layer
from openvocab.former_names import accept_former_arguments
from openvocab.structures import Instances, Size

AnchorBoxMean = Literal["levels", "samples"]
HUBER_DELTA = 1 / 9


@dataclass
class Proposals:
    """Boxes of a batch that may contain an object, best first."""

    boxes: list[Tensor]
    """Of each image: (N_i, 4) float32 x1 y1 x2 y2, input frame."""
    objectness: list[Tensor]
    """Of each image: (N_i,) in 0..1."""


@accept_former_arguments
class ProposalNetwork(RegionProposalNetwork):
    """Torchvision's region proposal network on a list of maps, which also returns the objectness of each proposal.

    Args:
        dim: channels of the maps.
        strides: of the maps, fine to coarse.
        anchor_sizes: one per level, in pixels (square root of the area); default: 8 strides.
        aspect_ratios: height / width of the anchors at every position.
        convs: convolutions before the two predictions.
        norm: after each of them, see `norm_layer`; the convolutions are shared by all levels, the norms are not.
        iou_thresholds: an anchor is background below the first IoU with all objects, and foreground from the second
            one on, as is the best anchor of every object; others are ignored.
        batch_size_per_image: anchors per image in the loss of objectness.
        positive_fraction: at most this part of them are foreground.
        pre_nms_top_n: proposals per level that enter non-maximum suppression, as (training, test).
        post_nms_top_n: proposals per image that are returned, as (training, test).
        nms_iou: IoU threshold of the non-maximum suppression within each level.
        box_loss_mean: "levels", the Huber loss of every foreground anchor, as a mean over the offsets of each level,
            summed over levels (official ViLD and F-VLM, which also ignore offsets of exactly zero), or "samples", the
            smooth L1 loss of the sampled foreground anchors, divided by the number of all sampled ones (torchvision).

    Raises:
        ValueError: a number of sizes other than that of levels, sizes that do not grow, an unknown choice.

    Reference: Faster R-CNN, arXiv 1506.01497.
    """

    def __init__(
        self,
        dim: int,
        strides: Sequence[float],
        anchor_sizes: Sequence[float] | None = None,
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        convs: int = 1,
        norm: str | None = None,
        iou_thresholds: tuple[float, float] = (0.3, 0.7),
        batch_size_per_image: int = 256,
        positive_fraction: float = 0.5,
        pre_nms_top_n: tuple[int, int] = (2000, 1000),
        post_nms_top_n: tuple[int, int] = (1000, 1000),
        nms_iou: float = 0.7,
        box_loss_mean: AnchorBoxMean = "levels",
    ) -> None:
        check_choice("box_loss_mean", box_loss_mean, get_args(AnchorBoxMean))
        if anchor_sizes is not None:
            check_numbers("anchor_sizes", anchor_sizes)
        check_numbers("aspect_ratios", aspect_ratios)
        check_number("convs", convs, 1, whole=True)
        check_numbers("iou_thresholds", iou_thresholds, 0, count=2)
        if iou_thresholds[0] > iou_thresholds[1]:
            raise ValueError(
                f"iou_thresholds: expected (background, foreground), the first not above, got {tuple(iou_thresholds)}"
            )
        check_number("batch_size_per_image", batch_size_per_image, 1, whole=True)
        check_fraction("positive_fraction", positive_fraction)
        check_numbers("pre_nms_top_n", pre_nms_top_n, 1, whole=True, count=2)
        check_numbers("post_nms_top_n", post_nms_top_n, 1, whole=True, count=2)
        check_fraction("nms_iou", nms_iou)
        sizes = [8 * stride for stride in strides] if anchor_sizes is None else list(anchor_sizes)
        if len(sizes) != len(strides) or any(fine >= coarse for fine, coarse in pairwise(sizes)):
            raise ValueError(f"anchor_sizes: expected {len(strides)} growing sizes, one per level, got {sizes}")
        super().__init__(
            AnchorGenerator(tuple((size,) for size in sizes), (tuple(aspect_ratios),) * len(sizes)),
            ProposalHead(dim, len(aspect_ratios), convs, len(sizes), norm),
            fg_iou_thresh=iou_thresholds[1],
            bg_iou_thresh=iou_thresholds[0],
            batch_size_per_image=batch_size_per_image,
            positive_fraction=positive_fraction,
            pre_nms_top_n=dict(zip(("training", "testing"), pre_nms_top_n)),
            post_nms_top_n=dict(zip(("training", "testing"), post_nms_top_n)),
            nms_thresh=nms_iou,
        )
        self.strides = tuple(strides)
        self.box_loss_mean = box_loss_mean

    def forward(
        self,
        maps: Sequence[Tensor],
        image_sizes: Sequence[Size],
        targets: Sequence[Instances] | None = None,
    ) -> tuple[Proposals, dict[str, Tensor]]:
        """Propose boxes and, with `targets`, compute the losses of the proposals.

        Args:
            maps: (B, dim, h_i, w_i) of each level, fine to coarse.
            image_sizes: (H, W) of each image before padding; boxes are clipped to it.
            targets: objects of each image without crowds, input frame.

        Returns:
            The proposals, and with `targets` the losses `loss_rpn_objectness` and `loss_rpn_box`, each ().
        """
        levels, offset_levels = self.head(list(maps))
        counts = [level[0].numel() for level in levels]  # anchors per image on each level; A in all
        # (B * A, 1) and (B * A, 4); float32, since bfloat16 would move the edges of large boxes by whole pixels
        logits, offsets = (part.float() for part in concat_box_prediction_layers(levels, offset_levels))
        anchors = [self._anchors(levels)] * len(image_sizes)
        # detached: the second stage does not train the proposals through the positions of its regions
        boxes = self.box_coder.decode(offsets.detach(), anchors).view(len(image_sizes), -1, 4)  # (B, A, 4)
        proposals = Proposals(*self.filter_proposals(boxes, logits, list(image_sizes), counts))
        if targets is None:
            return proposals, {}
        # of each image: (A,) 1 for foreground, 0 for background, -1 for ignored anchors; (A, 4) boxes of their objects
        labels, gt_boxes = self.assign_targets_to_anchors(anchors, [{"boxes": objects.boxes} for objects in targets])
        target_offsets = self.box_coder.encode(gt_boxes, anchors)  # (A, 4) of each image
        if self.box_loss_mean == "samples":
            objectness, box = self.compute_loss(logits, offsets, labels, target_offsets)
        else:
            objectness = self._objectness_loss(logits, labels)
            box = _sum_of_level_means(offsets, torch.cat(target_offsets), torch.cat(labels) == 1, counts)
        return proposals, {"loss_rpn_objectness": objectness, "loss_rpn_box": box}

    def _objectness_loss(self, logits: Tensor, labels: list[Tensor]) -> Tensor:
        """Return the mean () over sampled anchors, as torchvision's `compute_loss` does.

        Args:
            logits: (B * A, 1).
            labels: (A,) of each image: 1 for foreground, 0 for background, -1 for ignored anchors.
        """
        # nearly all anchors are background: a balanced sample keeps them from dominating the mean
        foreground, background = (torch.cat(is_sampled).nonzero()[:, 0] for is_sampled in self.fg_bg_sampler(labels))
        sampled = torch.cat([foreground, background])  # (S,) indices into B * A
        return F.binary_cross_entropy_with_logits(logits.flatten()[sampled], torch.cat(labels)[sampled])

    def _anchors(self, maps: Sequence[Tensor]) -> Tensor:
        """Return the anchors (A, 4) of maps (B, ., h_i, w_i), centered at multiples of the strides.

        Torchvision divides the size of the batch by that of the map, which gives too small a stride if the size of the
        map was rounded up.
        """
        generator = self.anchor_generator
        generator.set_cell_anchors(torch.float32, maps[0].device)
        grids = [list(level.shape[-2:]) for level in maps]
        return torch.cat(generator.grid_anchors(grids, [[stride, stride] for stride in self.strides]))


class ProposalHead(RPNHead):
    """Torchvision's head, whose convolutions all levels share, with norms for each level as in official ViLD.

    Args:
        dim: channels of the maps.
        num_anchors: at every position.
        convs: number of convolutions before the predictions.
        levels: number of maps.
        norm: see `norm_layer`.
    """

    def __init__(self, dim: int, num_anchors: int, convs: int, levels: int, norm: str | None = None) -> None:
        super().__init__(dim, num_anchors, convs)
        make_norm = norm_layer(norm) or (lambda _: nn.Identity())
        self.norms = nn.ModuleList(nn.ModuleList(make_norm(dim) for _ in range(convs)) for _ in range(levels))

    def forward(self, maps: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Predict from maps (B, dim, h_i, w_i).

        Returns:
            Logits of objectness (B, a, h_i, w_i) and offsets (B, 4 a, h_i, w_i) of each level, of a anchors per
            position.
        """
        hidden = []
        for level, norms in zip(maps, self.norms):
            for (convolution, activation), norm in zip(self.conv, cast("nn.ModuleList", norms)):
                # the convolution is that of all levels, the norm that of this one
                level = activation(norm(convolution(level)))
            hidden.append(level)
        return [self.cls_logits(level) for level in hidden], [self.bbox_pred(level) for level in hidden]


def _sum_of_level_means(offsets: Tensor, targets: Tensor, foreground: Tensor, counts: Sequence[int]) -> Tensor:
    """Return the Huber loss () of foreground anchors, as a mean over the offsets of each level, summed over levels.

    Args:
        offsets, targets: (B * A, 4); the anchors of an image are sorted by level.
        foreground: (B * A,) bool.
        counts: anchors per image on each level; their sum is A.
    """
    level = torch.arange(len(counts), device=offsets.device).repeat_interleave(
        torch.tensor(counts, device=offsets.device)
    )
    level = level.repeat(len(foreground) // len(level))[foreground]  # (P,)
    # (P,), summed over the four offsets
    losses = F.huber_loss(offsets[foreground], targets[foreground], delta=HUBER_DELTA, reduction="none").sum(dim=1)
    sums = losses.new_zeros(len(counts)).index_add(0, level, losses)  # (levels,)
    # a level without foreground anchors adds 0, not 0 / 0
    return (sums / (4 * level.bincount(minlength=len(counts))).clamp(min=1)).sum()


def as_regions(boxes: Sequence[Tensor]) -> Tensor:
    """Concatenate the boxes (N_i, 4) of each image to regions (N, 5): index of the image, x1 y1 x2 y2."""
    index = [image_boxes.new_full((len(image_boxes), 1), image) for image, image_boxes in enumerate(boxes)]  # (N_i, 1)
    return torch.cat([torch.cat(index), torch.cat(list(boxes))], dim=1)
