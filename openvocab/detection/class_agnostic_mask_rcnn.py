"""Class-agnostic Mask R-CNN: proposals, boxes and masks without a classifier."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import clip_boxes_to_image

from openvocab.argument_checks import argument_group, check_choice, check_fraction, check_number, construct_group
from openvocab.detection.box_coding import decode_boxes, encode_boxes
from openvocab.detection.box_head import BoxHead
from openvocab.detection.feature_pyramid import FeaturePyramid
from openvocab.detection.mask_branch import MaskBranch
from openvocab.detection.proposal_network import ProposalNetwork, Proposals
from openvocab.detection.region_align import AlignOptions
from openvocab.detection.region_outputs import RegionOutputs, original_boxes
from openvocab.detection.region_sampling import SampledRegions, SamplingOptions, sample_regions, without_crowds
from openvocab.former_names import accept_former_arguments
from openvocab.ops.class_wise_nms import class_wise_nms
from openvocab.ops.mask_encoding import encode_masks
from openvocab.process.memory_fallback import Halving
from openvocab.structures import BackboneSpec, DetectionPrediction, ImageFeatures, Instances, Sample, known

BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
BoxLossMean = Literal["offsets", "regions"]


@dataclass(frozen=True)
class BoxLossOptions:
    """The smooth L1 loss of the boxes of the second stage."""

    beta: float = 1.0
    """Difference of two offsets at which the loss turns from a square to a straight line; 0 is the L1 loss."""
    mean: BoxLossMean = "offsets"
    """What the sum is divided by: "offsets", the number of offsets of foreground regions (official ViLD and F-VLM), or
    "regions", the number of all sampled regions (torchvision, mmdetection, and DetPro with it). With P foreground
    regions of 512, the first mean is 512 / (4 P) times the second."""

    def __post_init__(self) -> None:
        check_number("box_loss.beta", self.beta, 0)
        check_choice("box_loss.mean", self.mean, get_args(BoxLossMean))


@dataclass(frozen=True)
class MaskLossOptions:
    """The loss of the masks of the second stage."""

    max_regions: int = 128
    """Maximum number of foreground regions per image in the loss."""

    def __post_init__(self) -> None:
        check_number("mask_loss.max_regions", self.max_regions, 1, whole=True)


@dataclass(frozen=True)
class DetectionOptions:
    """Which scored boxes are returned."""

    nms_iou: float = 0.5
    """IoU threshold of the non-maximum suppression within each class."""
    max_detections: int = 300
    """Maximum number per image. LVIS requires 300."""
    min_score: float = 0.0
    """Detections must score above it; rare classes need 0."""

    def __post_init__(self) -> None:
        check_fraction("detections.nms_iou", self.nms_iou)
        check_number("detections.max_detections", self.max_detections, 0, whole=True)
        check_number("detections.min_score", self.min_score, 0)


@accept_former_arguments
class ClassAgnosticMaskRCNN(nn.Module):
    """Feature pyramid, proposals, region features, and one box and one mask per region, whatever its class.

    A head of open-vocabulary detection adds the classifier. No part here knows a class, so that boxes and masks of
    novel classes are as good as those of base classes.

    Args:
        backbone: description of the backbone.
        pyramid: arguments of `FeaturePyramid`; `layers` at least.
        proposals: arguments of `ProposalNetwork`.
        align: fields of `AlignOptions`, how the features of regions are computed.
        box_head: arguments of `BoxHead`.
        masks: arguments of `MaskBranch`; default: the detector predicts boxes only.
        sampling: fields of `SamplingOptions`, which regions enter the losses.
        box_loss: fields of `BoxLossOptions`.
        mask_loss: fields of `MaskLossOptions`.
        detections: fields of `DetectionOptions`.

    Raises:
        TypeError: an unknown or missing argument of a group.
        ValueError: a value that a group does not accept.

    Reference: Mask R-CNN, arXiv 1703.06870, class-agnostic as in ViLD, arXiv 2104.13921.
    """

    def __init__(
        self,
        backbone: BackboneSpec,
        pyramid: Mapping[str, Any],
        proposals: Mapping[str, Any] | None = None,
        align: Mapping[str, Any] | AlignOptions | None = None,
        box_head: Mapping[str, Any] | None = None,
        masks: Mapping[str, Any] | None = None,
        sampling: Mapping[str, Any] | SamplingOptions | None = None,
        box_loss: Mapping[str, Any] | BoxLossOptions | None = None,
        mask_loss: Mapping[str, Any] | MaskLossOptions | None = None,
        detections: Mapping[str, Any] | DetectionOptions | None = None,
    ) -> None:
        super().__init__()
        self.align_options = argument_group("align", align, AlignOptions)
        self.box_loss = argument_group("box_loss", box_loss, BoxLossOptions)
        self.mask_loss = argument_group("mask_loss", mask_loss, MaskLossOptions)
        self.detection_options = argument_group("detections", detections, DetectionOptions)
        self.sampling = argument_group("sampling", sampling, SamplingOptions)
        self.pyramid = construct_group("pyramid", pyramid, FeaturePyramid, backbone=backbone)
        dim = self.pyramid.dim
        strides = self.pyramid.strides if self.align_options.read_extra_levels else self.pyramid.backbone_strides
        self.proposal_network = construct_group(
            "proposals", proposals, ProposalNetwork, dim=dim, strides=self.pyramid.strides
        )
        self.align = self.align_options.build(strides, self.align_options.region_size)
        self._box_head_arguments = box_head
        self.box_head = self.new_box_head()
        self.box_offsets = nn.Linear(self.box_head.out_dim, 4)
        # nearly zero offsets: at first a region keeps the box of its proposal
        nn.init.normal_(self.box_offsets.weight, std=0.001)
        nn.init.zeros_(self.box_offsets.bias)
        self.masks: MaskBranch | None = None
        if masks is not None:
            mask_align = self.align_options.build(strides, self.align_options.mask_region_size)
            self.masks = construct_group("masks", masks, MaskBranch, align=mask_align, in_dim=dim)
        self.regions_at_once = Halving("regions")

    def new_box_head(self) -> BoxHead:
        """Return another box head of the same architecture, with weights of its own."""
        in_dim, region_size = self.pyramid.dim, self.align_options.region_size
        return construct_group("box_head", self._box_head_arguments, BoxHead, in_dim=in_dim, region_size=region_size)

    def propose(self, features: ImageFeatures) -> tuple[list[Tensor], Proposals]:
        """Return the maps of the pyramid, and proposals.

        Returns:
            Maps (B, C, h_i, w_i), fine to coarse, and boxes (N_i, 4) of each image, clipped to the padded input.
        """
        maps = self.pyramid(features)
        image_sizes = [features.input_size] * len(maps[0])
        return maps, self.proposal_network(maps, image_sizes)[0]

    def refine(self, regions: Tensor, boxes: Sequence[Tensor]) -> list[Tensor]:
        """Move boxes by the offsets that are predicted from the features of their regions.

        Args:
            regions: (sum of N_i, F), in the order of the boxes.
            boxes: (N_i, 4) of each image, input frame.

        Returns:
            (N_i, 4) float32 of each image; they may reach outside the image.
        """
        moved = decode_boxes(self.box_offsets(regions), torch.cat(list(boxes)), BOX_WEIGHTS)  # (N, 4)
        return list(moved.split([len(image_boxes) for image_boxes in boxes]))

    def training_regions(
        self, features: ImageFeatures, samples: Sequence[Sample]
    ) -> tuple[list[Tensor], SampledRegions, dict[str, Tensor]]:
        """Propose regions, and sample those of the losses of the second stage.

        Returns:
            The pyramid's maps (B, C, h_i, w_i), the sampled regions, and the losses of the proposals, each ().

        Raises:
            ValueError: a sample without labeled objects, or with no masks although masks are trained.
        """
        targets = [self._objects(sample) for sample in samples]
        maps = self.pyramid(features)
        sizes = [sample.input_size for sample in samples]
        proposals, losses = self.proposal_network(maps, sizes, targets)
        return maps, sample_regions(proposals.boxes, targets, self.sampling), losses

    def losses(self, maps: Sequence[Tensor], sampled: SampledRegions, regions: Tensor) -> dict[str, Tensor]:
        """Return `loss_box` and, with a mask branch, `loss_mask`, each ().

        Args:
            maps: (B, C, h_i, w_i) of the pyramid.
            sampled: S regions of the batch.
            regions: (S, F), their features.
        """
        losses = {"loss_box": self._box_loss(sampled, regions)}
        if self.masks is not None:
            # (P_i,) rows; limited, since by default a region of the mask branch has four times the cells of one of
            # the box head
            foreground = [
                (objects >= 0).nonzero().squeeze(1)[: self.mask_loss.max_regions] for objects in sampled.objects
            ]
            boxes = [image_boxes[rows] for image_boxes, rows in zip(sampled.boxes, foreground)]
            objects = [image_objects[rows] for image_objects, rows in zip(sampled.objects, foreground)]
            gt_masks = [known(target.masks, "masks of the instances") for target in sampled.targets]
            losses["loss_mask"] = self.masks.loss(maps, boxes, objects, gt_masks)
        return losses

    def detections(
        self, outputs: RegionOutputs, scores: Tensor, samples: Sequence[Sample]
    ) -> list[DetectionPrediction]:
        """Suppress duplicates within each class and predict the masks of the boxes that remain, in the original frame.

        Args:
            outputs: N regions of the batch.
            scores: (N, K) in 0..1, the head's final ones; a background class of the vocabulary is not detected.
            samples: of the batch.

        Returns:
            One prediction per image: boxes (M, 4) x1 y1 x2 y2 of the original frame, scores (M,) in 0..1, best first,
            classes (M,) int64, and run-length encoded masks of the original size.
        """
        background = known(samples[0].vocabulary, f"vocabulary of sample {samples[0].sample_id!r}").background
        if background is not None:
            # min_score is 0 or more, so that a score of 0 is never detected
            scores = scores.index_fill(1, torch.tensor(background, device=scores.device), 0)
        clipped = [
            clip_boxes_to_image(boxes, sample.input_size) for boxes, sample in zip(outputs.boxes, samples, strict=True)
        ]
        corners = torch.cat(clipped)  # (N, 4)
        has_area = (corners[:, 2:] > corners[:, :2]).all(dim=1)  # (N,), False for a box that lies in the padding
        clipped_scores = (scores.float() * has_area[:, None]).split([len(boxes) for boxes in clipped])
        options = self.detection_options
        selected = [
            class_wise_nms(boxes, of_image, options.nms_iou, options.max_detections, options.min_score)
            for boxes, of_image in zip(clipped, clipped_scores)
        ]
        boxes = [image_boxes[rows] for image_boxes, (rows, _, _) in zip(clipped, selected)]
        # masks come last: only those of the final boxes are computed, at most max_detections per image
        masks = self._mask_probabilities(outputs.maps, boxes)
        return [
            _prediction(image_boxes, image_masks, classes, image_scores, sample)
            for image_boxes, image_masks, (_, classes, image_scores), sample in zip(
                boxes, masks, selected, samples, strict=True
            )
        ]

    def _mask_probabilities(self, maps: Sequence[Tensor], boxes: Sequence[Tensor]) -> Sequence[Tensor] | Sequence[None]:
        """Return (N_i, m, m) of each image, or None for each without a mask branch."""
        branch = self.masks
        if branch is None:
            return [None] * len(boxes)
        counts = [len(image_boxes) for image_boxes in boxes]
        parts = self.regions_at_once.run(
            lambda start, stop: branch(maps, boxes_between(boxes, start, stop)).sigmoid(), sum(counts)
        )
        return torch.cat(parts).split(counts)  # (N_i, m, m) each

    def _box_loss(self, sampled: SampledRegions, regions: Tensor) -> Tensor:
        """Return the smooth L1 loss () of the offsets of foreground regions, see `BoxLossOptions`."""
        objects = torch.cat(sampled.objects)  # (S,)
        foreground = objects >= 0  # (S,)
        # background regions have no target box, and no loss
        gt_boxes = [
            target.boxes[image_objects[image_objects >= 0]]
            for target, image_objects in zip(sampled.targets, sampled.objects)
        ]
        # float32: the targets are offsets of fractions of a pixel, which bfloat16 would round
        offsets = self.box_offsets(regions[foreground]).float()  # (P, 4)
        target_offsets = encode_boxes(
            torch.cat(gt_boxes).to(offsets), torch.cat(sampled.boxes)[foreground], BOX_WEIGHTS
        )
        count = offsets.numel() if self.box_loss.mean == "offsets" else len(objects)
        # a sum over at least 1, since a mean over no region would be NaN
        return F.smooth_l1_loss(offsets, target_offsets, beta=self.box_loss.beta, reduction="sum") / max(1, count)

    def _objects(self, sample: Sample) -> Instances:
        """Return the single objects of a sample."""
        if sample.instances is None:
            raise ValueError(
                f"sample {sample.sample_id!r} has no instances; detection needs labeled objects (an empty list is "
                "fine): use a DetectionDataset, with LoadInstances in its pipeline"
            )
        if self.masks is not None and sample.instances.masks is None:
            raise ValueError(
                f"sample {sample.sample_id!r} has no masks to learn from; set with_masks=True in its dataset, or "
                "masks=None in the head's detector"
            )
        return without_crowds(sample.instances)


def boxes_between(boxes: Sequence[Tensor], start: int, stop: int) -> list[Tensor]:
    """Return the boxes of a range, counted over the whole batch.

    Args:
        boxes: (N_i, 4) of each image.
        start, stop: the range, as of `torch.cat(boxes)[start:stop]`.

    Returns:
        (M_i, 4) of each image; the M_i sum to `stop - start`.
    """
    parts, offset = [], 0
    for image_boxes in boxes:
        parts.append(image_boxes[max(0, start - offset) : max(0, stop - offset)])
        offset += len(image_boxes)
    return parts


def _prediction(
    boxes: Tensor, masks: Tensor | None, classes: Tensor, scores: Tensor, sample: Sample
) -> DetectionPrediction:
    """Bring one image's boxes (N, 4) and mask probabilities (N, m, m) from the input frame to the original one."""
    boxes = original_boxes(boxes, sample)
    encoded = None if masks is None else encode_masks(masks, boxes, sample.original_size)
    vocabulary = known(sample.vocabulary, f"vocabulary of sample {sample.sample_id!r}")
    return DetectionPrediction(
        boxes.cpu(), scores.cpu(), classes.cpu(), vocabulary, encoded, sample_id=sample.sample_id
    )
