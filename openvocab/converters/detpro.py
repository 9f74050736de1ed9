"""Conversion of ViLD checkpoints of the DetPro port (dyabel/detpro, mmdetection 2)."""

from collections.abc import Mapping

from torch import Tensor

from openvocab.checkpoint.entry_renaming import rename_entries
from openvocab.converters.clip_text import text_tower

CLIP = "roi_head.clip_model."
DETECTOR = "head.detector"
RENAMED = (
    (r"backbone\.(.+)", r"backbone.visual.\1"),
    (r"neck\.lateral_convs\.(\d)\.(conv|bn)\.(.+)", rf"{DETECTOR}.pyramid.network.inner_blocks.\1.{{\2}}.\3"),
    (r"neck\.fpn_convs\.(\d)\.(conv|bn)\.(.+)", rf"{DETECTOR}.pyramid.network.layer_blocks.\1.{{\2}}.\3"),
    (r"rpn_head\.rpn_conv\.(.+)", rf"{DETECTOR}.proposal_network.head.conv.0.0.\1"),
    (r"rpn_head\.rpn_cls\.(.+)", rf"{DETECTOR}.proposal_network.head.cls_logits.\1"),
    (r"rpn_head\.rpn_reg\.(.+)", rf"{DETECTOR}.proposal_network.head.bbox_pred.\1"),
    (r"roi_head\.bbox_head\.shared_convs\.(\d)\.(conv|bn)\.(.+)", rf"{DETECTOR}.box_head.layers.\1.{{\2}}.\3"),
    (r"roi_head\.bbox_head\.shared_fcs\.0\.(.+)", rf"{DETECTOR}.box_head.layers.5.\1"),
    (r"roi_head\.bbox_head\.fc_reg\.(.+)", rf"{DETECTOR}.box_offsets.\1"),
    (r"roi_head\.bbox_head\.shared_convs_for_image\.(\d)\.(conv|bn)\.(.+)", r"head.image_box_head.layers.\1.{\2}.\3"),
    (r"roi_head\.bbox_head\.shared_fcs_for_image\.0\.(.+)", r"head.image_box_head.layers.5.\1"),
    (r"roi_head\.projection\.(.+)", r"head.classifier.project.\1"),
    (r"roi_head\.projection_for_image\.(.+)", r"head.image_classifier.project.\1"),
    (r"roi_head\.mask_head\.convs\.(\d)\.conv\.(.+)", rf"{DETECTOR}.masks.head.\1.0.\2"),
    (r"roi_head\.mask_head\.upsample\.(.+)", rf"{DETECTOR}.masks.predictor.conv5_mask.\1"),
    (r"roi_head\.mask_head\.conv_logits\.(.+)", rf"{DETECTOR}.masks.predictor.mask_fcn_logits.\1"),
)
BACKGROUND = "roi_head.bg_embedding"
SOURCE = "a ViLD checkpoint of DetPro"


def convert(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the entries of a checkpoint; only the values of the background change.

    In the checkpoint, the background is a linear layer applied to the number one; its weight plus its bias is the
    background vector here. The checkpoint includes a frozen CLIP, whose text tower becomes the text encoder.

    Args:
        state_dict: the checkpoint's `state_dict`.

    Returns:
        A state dict for the model of `configs/vild_lvis_r50_detpro.py` that loads strictly, with `head.variant="vild"`
        for checkpoints without an image branch.

    Raises:
        ValueError: there are unknown entries, or required ones are missing; the message lists the first few.
    """
    detector = {key: value for key, value in state_dict.items() if not key.startswith(CLIP)}
    weight, bias = (detector.pop(f"{BACKGROUND}.{name}", None) for name in ("weight", "bias"))
    renamed = rename_entries(detector, RENAMED, SOURCE, _spell, len(state_dict))
    if weight is None or bias is None:
        raise ValueError(f"not {SOURCE}: it lacks {BACKGROUND}.weight and .bias")
    renamed["head.classifier.background"] = weight[:, 0] + bias
    clip = {key.removeprefix(CLIP): value for key, value in state_dict.items() if key.startswith(CLIP)}
    return renamed | (text_tower(clip) if clip else {})


def _spell(name: str) -> str:
    """Replace `{conv}` and `{bn}` by their indices in a sequence."""
    return name.replace("{conv}", "0").replace("{bn}", "1")
