"""ViLD-text on Shapes: boxes and masks of 36 classes, classified by texts; its proposals are those of the teacher of `vild_shapes.py`.

Paper: Open-vocabulary Object Detection via Vision and Language Knowledge Distillation (arXiv 2104.13921), here on the
tiny CLIP that `clip_shapes.py` trains: our shared-backbone variant, since official ViLD starts from random weights.
Command: python tools/train.py configs/vild_text_shapes.py && python tools/test.py configs/vild_text_shapes.py
work_dirs/vild_text_shapes/best.pth
Files: data/shapes (tools/make_shapes.py) and work_dirs/clip_shapes/last.pth (clip_shapes.py).
Hardware: 2 CPU cores, 8 minutes. Expected score: box AP50 base 86.2 ± 2.3, novel
82.1 ± 4.5 over three seeds; see docs/results.md.
"""

from mmengine.config import read_base

from openvocab.backbones.clip import CLIPBackbone
from openvocab.engine.muon import Muon
from openvocab.heads.vild import ViLDHead
from openvocab.model import OpenVocabModel
from openvocab.text.clip_text import CLIPTextEncoder

with read_base():
    from ._base_.datasets.shapes_detection import *
    from ._base_.runtime import *
    from ._base_.schedules.adamw_cosine import *

clip = dict(model="ConvNet-8-shapes", pretrained="work_dirs/clip_shapes/last.pth")
detector = dict(
    pyramid=dict(layers=(2, 3), dim=64, extra_levels=1, norm="group"),  # strides 4, 8 and 16
    proposals=dict(
        anchor_sizes=(12, 20, 32), aspect_ratios=(1.0,), pre_nms_top_n=(200, 200), post_nms_top_n=(100, 100)
    ),
    align=dict(canonical_size=24, canonical_stride=8, sampling_ratio=1),
    box_head=dict(convs=2, conv_dim=64, layers=1, dim=256, norm="group"),
    masks=dict(dim=64, convs=2, norm="group"),
    sampling=dict(batch_size_per_image=64),
    mask_loss=dict(max_regions=16),
    detections=dict(max_detections=100),
)
model = dict(
    type=OpenVocabModel,
    backbone=dict(type=CLIPBackbone, trainable="all", **clip),
    text_encoder=dict(type=CLIPTextEncoder, templates="none", **clip),
    head=dict(type=ViLDHead, variant="text", temperature=0.05, detector=detector),
)

max_iters, warmup_iters = 1000, 100
optim_wrapper["optimizer"] = dict(type=Muon, lr=1e-2, weight_decay=0.05)
optim_wrapper["amp"] = "auto"
param_scheduler[0]["end"] = param_scheduler[1]["begin"] = warmup_iters
param_scheduler[1]["end"] = max_iters
train_cfg.update(max_iters=max_iters, val_interval=500)
default_hooks["checkpoint"].update(interval=500, best="ovd_box_AP50_base")
