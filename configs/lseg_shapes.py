"""LSeg on Shapes: trained on the labels of 36 classes and tested on 48.

Paper: Language-driven Semantic Segmentation (arXiv 2201.03546), here on the tiny CLIP that `clip_shapes.py` trains: our
shared-backbone variant, since official LSeg uses only the text tower of CLIP.
Command: python tools/train.py configs/lseg_shapes.py && python tools/test.py configs/lseg_shapes.py work_dirs/lseg_shapes/best.pth
Hardware: 2 CPU cores. Expected score: see docs/results.md, measured by the command above.
"""

from mmengine.config import read_base

from openvocab.backbones.clip import CLIPBackbone
from openvocab.engine.muon import Muon
from openvocab.heads.lseg import LSegHead
from openvocab.model import OpenVocabModel
from openvocab.text.clip_text import CLIPTextEncoder

with read_base():
    from ._base_.datasets.shapes_segmentation import *
    from ._base_.runtime import *
    from ._base_.schedules.adamw_cosine import *

clip = dict(model="ConvNet-8-shapes", pretrained="work_dirs/clip_shapes/last.pth")
model = dict(
    type=OpenVocabModel,
    backbone=dict(type=CLIPBackbone, trainable="all", **clip),
    text_encoder=dict(type=CLIPTextEncoder, templates="lseg", **clip),  # bare names, as in the noun prompts of its CLIP
    head=dict(
        type=LSegHead,
        layers=(2, 3),  # strides 4 and 8
        decoder=dict(factors=None, features=64),
        learn_scale=True,
        loss_size="sampled",  # 4.7 seen and 6.6 unseen above "head", at the same cost (docs/results.md)
    ),
)

max_iters, warmup_iters = 1200, 100
optim_wrapper["optimizer"] = dict(type=Muon, lr=1e-2, weight_decay=0.05)
optim_wrapper["amp"] = "auto"
param_scheduler[0]["end"] = param_scheduler[1]["begin"] = warmup_iters
param_scheduler[1]["end"] = max_iters
train_cfg.update(max_iters=max_iters, val_interval=600)
default_hooks["checkpoint"].update(interval=600)
