"""Mask R-CNN without its classifier: what a detector needs to know before it needs words."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import clip_boxes_to_image

from openvocab.argument_checks import check_choice
from openvocab.detection.box_coding import decode_boxes, encode_boxes
from openvocab.detection.box_head import BoxHead
from openvocab.detection.feature_pyramid import FeaturePyramid
from openvocab.detection.mask_branch import MaskBranch
from openvocab.detection.proposal_network import ProposalNetwork, Proposals
from openvocab.detection.region_align import RegionAlign
from openvocab.detection.region_outputs import RegionOutputs, original_boxes
from openvocab.detection.region_sampling import SampledRegions, sample_regions, without_crowds
from openvocab.ops.class_wise_nms import class_wise_nms
from openvocab.ops.mask_encoding import encode_masks
from openvocab.process.memory_fallback import Halving
from openvocab.structures import BackboneSpec, DetectionPrediction, ImageFeatures, Instances, Sample

BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
RegionBoxMean = Literal["offsets", "regions"]


class ClassAgnosticMaskRCNN(nn.Module):
    """Feature pyramid, proposals, regions, and one box and one mask for whatever a region shows.

    A head of open-vocabulary detection adds the words. Classes without labels get boxes and masks as good as others'
    only because no part here knows a class.

    Args:
        backbone: facts of the backbone.
        pyramid: arguments of `FeaturePyramid`; `layers` at least.
        proposals: arguments of `ProposalNetwork`.
        align: arguments of `RegionAlign` beside the sizes: how regions are read.
        box_head: arguments of `BoxHead`.
        masks: arguments of `MaskBranch`; None leaves masks out.
        sampling: arguments of `sample_regions`.
        region_size, mask_region_size: cells a side that the box head and the mask branch read.
        read_extra_levels: read large regions at the extra levels of the pyramid too, as official ViLD does.
        mask_samples: regions an image that the mask loss looks at, at most.
        box_beta: where the box loss turns from a square to a straight line.
        box_loss_mean: over what the box loss is a mean: "offsets", the four of every region that shows an object
            (official ViLD and F-VLM), or "regions", the sum over all sampled regions, of objects or not (torchvision,
            mmdetection, and DetPro with it). With P of 512 regions on objects the first is 512 / (4 P) times the
            second.
        nms_iou: of two boxes of one class that overlap more the better one stays.
        max_detections: an image. LVIS asks for 300.
        min_score: detections with no more than this are dropped; rare classes need 0.

    Reference: Mask R-CNN, arXiv 1703.06870, class-agnostic as in ViLD, arXiv 2104.13921.
    """

    def __init__(
        self,
        backbone: BackboneSpec,
        pyramid: Mapping[str, Any],
        proposals: Mapping[str, Any] | None = None,
        align: Mapping[str, Any] | None = None,
        box_head: Mapping[str, Any] | None = None,
        masks: Mapping[str, Any] | None = None,
        sampling: Mapping[str, Any] | None = None,
        region_size: int = 7,
        mask_region_size: int = 14,
        read_extra_levels: bool = False,
        mask_samples: int = 128,
        box_beta: float = 1.0,
        box_loss_mean: RegionBoxMean = "offsets",
        nms_iou: float = 0.5,
        max_detections: int = 300,
        min_score: float = 0.0,
    ) -> None:
        super().__init__()
        if min_score < 0:
            raise ValueError(f"min_score: expected 0 or more, got {min_score}")
        check_choice("box_loss_mean", box_loss_mean, get_args(RegionBoxMean))
        self.pyramid = FeaturePyramid(backbone, **pyramid)
        dim = self.pyramid.dim
        strides = self.pyramid.strides if read_extra_levels else self.pyramid.own_strides
        self.proposal_network = ProposalNetwork(dim, self.pyramid.strides, **proposals or {})
        self.align = RegionAlign(strides, region_size, **align or {})
        self._box_head_args = dict(in_dim=dim, region_size=region_size, **box_head or {})
        self.box_head = self.new_box_head()
        self.box_offsets = nn.Linear(self.box_head.out_dim, 4)
        nn.init.normal_(self.box_offsets.weight, std=0.001)
        nn.init.zeros_(self.box_offsets.bias)
        self.masks = None
        if masks is not None:
            self.masks = MaskBranch(RegionAlign(strides, mask_region_size, **align or {}), dim, **masks)
        self.sampling = dict(sampling or {})
        self.mask_samples = mask_samples
        self.box_beta, self.box_loss_mean = box_beta, box_loss_mean
        self.nms_iou, self.max_detections, self.min_score = nms_iou, max_detections, min_score
        self.regions_at_once = Halving("regions")

    def new_box_head(self) -> BoxHead:
        """Make a further box head like the first one, with weights of its own."""
        return BoxHead(**self._box_head_args)

    def propose(self, features: ImageFeatures) -> tuple[list[Tensor], Proposals]:
        """Return the maps of the pyramid, and proposals clipped to the padded input."""
        maps = self.pyramid(features)
        image_sizes = [features.input_size] * len(maps[0])
        return maps, self.proposal_network(maps, image_sizes)[0]

    def refine(self, regions: Tensor, boxes: Sequence[Tensor]) -> list[Tensor]:
        """Move the boxes of each image by what their regions (N, F) say; they may stick out of the image."""
        moved = decode_boxes(self.box_offsets(regions), torch.cat(list(boxes)), BOX_WEIGHTS)
        return list(moved.split([len(found) for found in boxes]))

    def training_regions(
        self, features: ImageFeatures, samples: Sequence[Sample]
    ) -> tuple[list[Tensor], SampledRegions, dict[str, Tensor]]:
        """Propose regions and draw those to learn from.

        Returns:
            The maps of the pyramid, the regions, and the losses of the proposals.

        Raises:
            ValueError: a sample without labeled objects, or without masks where masks are learnt.
        """
        targets = [self._objects(sample) for sample in samples]
        maps = self.pyramid(features)
        sizes = [sample.input_size for sample in samples]
        proposals, losses = self.proposal_network(maps, sizes, targets)
        return maps, sample_regions(proposals.boxes, targets, **self.sampling), losses

    def losses(self, maps: Sequence[Tensor], sampled: SampledRegions, regions: Tensor) -> dict[str, Tensor]:
        """Return `loss_box`, and `loss_mask` where there are masks, of sampled regions with features (N, F)."""
        losses = {"loss_box": self._box_loss(sampled, regions)}
        if self.masks is not None:
            chosen = [(objects >= 0).nonzero().squeeze(1)[: self.mask_samples] for objects in sampled.objects]
            boxes = [found[rows] for found, rows in zip(sampled.boxes, chosen)]
            objects = [found[rows] for found, rows in zip(sampled.objects, chosen)]
            losses["loss_mask"] = self.masks.loss(maps, boxes, objects, [target.masks for target in sampled.targets])
        return losses

    def detections(
        self, outputs: RegionOutputs, scores: Tensor, samples: Sequence[Sample]
    ) -> list[DetectionPrediction]:
        """Decide: class-wise non-maximum suppression, masks of what is left, and back to the original frame.

        Args:
            outputs: what the head said.
            scores: (N, K) in 0..1, its final word on the classes; a background class of the vocabulary is not detected.
            samples: of the batch.
        """
        background = samples[0].vocabulary.background
        if background is not None:
            scores = scores.index_fill(1, torch.tensor(background, device=scores.device), 0)
        inside = [
            clip_boxes_to_image(boxes, sample.input_size) for boxes, sample in zip(outputs.boxes, samples, strict=True)
        ]
        corners = torch.cat(inside)
        has_area = (corners[:, 2:] > corners[:, :2]).all(dim=1)  # (N,), False where all of a box was padding
        parts = (scores.float() * has_area[:, None]).split([len(boxes) for boxes in inside])
        kept = [
            class_wise_nms(boxes, part, self.nms_iou, self.max_detections, self.min_score)
            for boxes, part in zip(inside, parts)
        ]
        boxes = [found[rows] for found, (rows, _, _) in zip(inside, kept)]
        masks = self._mask_probabilities(outputs.maps, boxes)
        return [_prediction(*image, sample) for *image, sample in zip(boxes, masks, kept, samples, strict=True)]

    def _mask_probabilities(self, maps: Sequence[Tensor], boxes: Sequence[Tensor]) -> list[Tensor | None]:
        """Return (N_i, m, m) of each image."""
        if self.masks is None:
            return [None] * len(boxes)
        counts = [len(found) for found in boxes]
        parts = self.regions_at_once.run(
            lambda start, stop: self.masks(maps, boxes_between(boxes, start, stop)).sigmoid(), sum(counts)
        )
        return list(torch.cat(parts).split(counts))

    def _box_loss(self, sampled: SampledRegions, regions: Tensor) -> Tensor:
        """Return the smooth L1 loss of the offsets of regions that show an object, see `box_loss_mean`."""
        objects = torch.cat(sampled.objects)
        shown = objects >= 0
        goals = [target.boxes[found[found >= 0]] for target, found in zip(sampled.targets, sampled.objects)]
        offsets = self.box_offsets(regions[shown]).float()
        wanted = encode_boxes(torch.cat(goals).to(offsets), torch.cat(sampled.boxes)[shown], BOX_WEIGHTS)
        count = offsets.numel() if self.box_loss_mean == "offsets" else len(objects)
        return F.smooth_l1_loss(offsets, wanted, beta=self.box_beta, reduction="sum") / max(1, count)

    def _objects(self, sample: Sample) -> Instances:
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
    """Return the boxes `start` to `stop` of all images (N_i, 4), still image by image."""
    parts, offset = [], 0
    for found in boxes:
        parts.append(found[max(0, start - offset) : max(0, stop - offset)])
        offset += len(found)
    return parts


def _prediction(
    boxes: Tensor, masks: Tensor | None, kept: tuple[Tensor, Tensor, Tensor], sample: Sample
) -> DetectionPrediction:
    """Bring one image's boxes (N, 4) and masks (N, m, m) from the input frame to the original one."""
    boxes = original_boxes(boxes, sample)
    encoded = None if masks is None else encode_masks(masks, boxes, sample.original_size)
    _, classes, scores = kept
    return DetectionPrediction(
        boxes.cpu(), scores.cpu(), classes.cpu(), sample.vocabulary, encoded, sample_id=sample.sample_id
    )
