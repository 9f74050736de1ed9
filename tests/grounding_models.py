"""A GLIP of a few thousand weights that finds something for every phrase."""

from pathlib import Path

import torch
from config_parts import REPOSITORY, without_weights

from openvocab.checkpoint.checkpoint import save_checkpoint
from openvocab.config.config import read_config
from openvocab.config.saved import config_to_data
from openvocab.registry import MODELS

TINY_HEAD = {
    "pyramid": dict(layers=(2, 3), dim=32),
    "tower": dict(num_blocks=1, text_heads=2, fusion_heads=2, fusion_head_dim=4),
    "detections": dict(max_detections=40, nms_iou=0.1, min_score=0.4),
}


def save_tiny_glip(path: Path) -> Path:
    """Write a checkpoint, as a training does: configs/glip_shapes.py, narrow, with random weights and CLIP's tokens."""
    config = read_config(REPOSITORY / "configs" / "glip_shapes.py")
    config.model = without_weights(config.model.to_dict())
    config.model["text_encoder"] = dict(type="CLIPTextEncoder", model="ConvNet-8-shapes", templates="none")
    config.model["head"] |= TINY_HEAD
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    with torch.no_grad():  # about half of all scores are above 0.5, and each token has others
        model.head.alignment.bias.zero_()
        model.head.alignment.token_bias.normal_(0, 0.3)
    save_checkpoint({"state_dict": model.state_dict(), "meta": {"config": config_to_data(config)}}, path)
    return path
