"""Torchvision's class-aware detector with the weights of our class-agnostic one: every class has the same rows."""

import copy
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import AnchorGenerator, RPNHead
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign

from openvocab.backbones.base import Backbone
from openvocab.heads.vild import ViLDHead
from openvocab.structures import BackboneSpec, ImageFeatures, TextFeatures

MAPS = ["0", "1", "2"]


class TinyBackbone(Backbone):
    """Three convolutions; `maps` is what the detector of torchvision shares."""

    mean, std = (100.0, 110.0, 120.0), (50.0, 60.0, 70.0)
    spec = BackboneSpec(None, 16, (6, 8, 10), (4, 8, 16))

    def __init__(self) -> None:
        super().__init__()
        dims = (3, *self.spec.hidden_dims)
        self.convs = nn.ModuleList(nn.Conv2d(*pair, step, step) for *pair, step in zip(dims, dims[1:], (4, 2, 2)))

    def maps(self, images: Tensor) -> list[Tensor]:
        maps = [images]
        for conv in self.convs:
            maps.append(conv(maps[-1]).relu())
        return maps[1:]

    def forward(self, images: Tensor, layers=(), embed=False) -> ImageFeatures:
        self.check_input(images, layers)
        maps = self.maps(images)
        return ImageFeatures(tuple(images.shape[-2:]), hidden={i: maps[i] for i in layers})


class BackboneAndPyramid(nn.Module):
    """What torchvision calls a backbone."""

    def __init__(self, backbone: TinyBackbone, pyramid: FeaturePyramidNetwork, out_channels: int) -> None:
        super().__init__()
        self.backbone, self.pyramid, self.out_channels = backbone, pyramid, out_channels

    def forward(self, images: Tensor) -> OrderedDict[str, Tensor]:
        levels = self.pyramid(OrderedDict(zip(MAPS, self.backbone.maps(images))))
        levels["pool"] = F.max_pool2d(levels[MAPS[-1]], 1, 2)
        return levels


class UnitNorm(nn.Module):
    def forward(self, embed: Tensor) -> Tensor:
        return F.normalize(embed, dim=-1)


def box_predictor(head: ViLDHead, text: TextFeatures) -> FastRCNNPredictor:
    """Classes as rows of a linear layer, background first; the same box rows for all of them."""
    classes, dim = text.num_classes + 1, head.detector.box_head.out_dim
    predictor = FastRCNNPredictor(dim, classes)
    rows = torch.cat([F.normalize(head.classifier.background, dim=0)[None], text.embed]) / head.classifier.temperature
    linear = nn.Linear(text.embed.shape[1], classes, bias=False)
    offsets = head.detector.box_offsets
    with torch.no_grad():
        linear.weight.copy_(rows)
        predictor.bbox_pred.weight.copy_(offsets.weight.repeat(classes, 1))
        predictor.bbox_pred.bias.copy_(offsets.bias.repeat(classes))
    predictor.cls_score = nn.Sequential(copy.deepcopy(head.classifier.project), UnitNorm(), linear)
    return predictor


def mask_predictor(head: ViLDHead, classes: int) -> MaskRCNNPredictor:
    ours = head.detector.masks.predictor
    dim = ours.conv5_mask.in_channels
    predictor = MaskRCNNPredictor(dim, dim, classes)
    state = ours.state_dict()
    for name in ("mask_fcn_logits.weight", "mask_fcn_logits.bias"):
        state[name] = state[name].repeat_interleave(classes, dim=0)
    predictor.load_state_dict(state)
    return predictor


def region_poolers() -> tuple[MultiScaleRoIAlign, MultiScaleRoIAlign]:
    return MultiScaleRoIAlign(MAPS, 7, 2), MultiScaleRoIAlign(MAPS, 14, 2)


def make_region_heads(head: ViLDHead, text: TextFeatures, samples: int, max_detections: int) -> RoIHeads:
    """Return the second stage."""
    detector, (boxes, masks) = head.detector, region_poolers()
    return RoIHeads(
        boxes,
        detector.box_head.layers,
        box_predictor(head, text),
        fg_iou_thresh=0.5,
        bg_iou_thresh=0.5,
        batch_size_per_image=samples,
        positive_fraction=0.25,
        bbox_reg_weights=None,
        score_thresh=0.0,
        nms_thresh=0.5,
        detections_per_img=max_detections,
        mask_roi_pool=masks,
        mask_head=detector.masks.head,
        mask_predictor=mask_predictor(head, text.num_classes + 1),
    )


def make_mask_rcnn(head: ViLDHead, backbone: TinyBackbone, text: TextFeatures, size: int, args: dict) -> MaskRCNN:
    """Return the whole detector, for square images that are resized to `size`.

    Args:
        args: of `head.detector`.
    """
    detector, (boxes, masks), proposals = head.detector, region_poolers(), args["proposals"]
    rpn_head = RPNHead(detector.pyramid.dim, 3, 1)
    rpn_head.load_state_dict(detector.proposal_network.head.state_dict())
    return MaskRCNN(
        BackboneAndPyramid(backbone, detector.pyramid.network, detector.pyramid.dim),
        min_size=size,
        max_size=size,
        size_divisible=16,
        image_mean=[value / 255 for value in backbone.mean],
        image_std=[value / 255 for value in backbone.std],
        rpn_anchor_generator=AnchorGenerator(tuple((s,) for s in proposals["anchor_sizes"]), ((0.5, 1.0, 2.0),) * 4),
        rpn_head=rpn_head,
        rpn_pre_nms_top_n_train=proposals["pre_nms_top_n"][0],
        rpn_pre_nms_top_n_test=proposals["pre_nms_top_n"][1],
        rpn_post_nms_top_n_train=proposals["post_nms_top_n"][0],
        rpn_post_nms_top_n_test=proposals["post_nms_top_n"][1],
        rpn_batch_size_per_image=proposals["batch_size_per_image"],
        box_roi_pool=boxes,
        box_head=detector.box_head.layers,
        box_predictor=box_predictor(head, text),
        box_score_thresh=0.0,
        box_detections_per_img=args["detections"]["max_detections"],
        box_batch_size_per_image=args["sampling"]["batch_size_per_image"],
        mask_roi_pool=masks,
        mask_head=detector.masks.head,
        mask_predictor=mask_predictor(head, text.num_classes + 1),
    )
