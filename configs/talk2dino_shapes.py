"""Talk2DINO's recipe on Shapes: it runs every part and learns little, since no self-supervised tower was trained on Shapes.

Paper: Talk2DINO (arXiv 2411.19331), at small scale: a random tower replaces DINOv2; for the real one see `talk2dino_coco.py`.
Command: python tools/train.py configs/talk2dino_shapes.py && python tools/test.py configs/talk2dino_shapes.py work_dirs/talk2dino_shapes/last.pth
Hardware: 2 CPU cores. Expected score: not yet measured.
"""

from mmengine.config import read_base

from openvocab.backbones.dino import DINOBackbone
from openvocab.datasets.captions import CaptionDataset
from openvocab.datasets.transforms import LoadImage, PackSample
from openvocab.heads.talk2dino import Talk2DINOHead
from openvocab.model import OpenVocabModel
from openvocab.text.clip_text import CLIPTextEncoder

with read_base():
    from ._base_.datasets.shapes_segmentation import *
    from ._base_.runtime import *
    from ._base_.schedules.adamw_cosine import *

model = dict(
    type=OpenVocabModel,
    backbone=dict(type=DINOBackbone, model="vit_tiny_patch16_224", class_attention=True),
    text_encoder=dict(
        type=CLIPTextEncoder,
        model="ConvNet-8-shapes",
        pretrained="work_dirs/clip_shapes/last.pth",
        templates="imagenet7",
        normalize_templates=False,
        final_norm=False,
    ),
    head=dict(type=Talk2DINOHead, background_score=0.55),
)

train_dataloader["batch_size"] = 64
train_dataloader["drop_last"] = True
train_dataloader["dataset"] = dict(
    type=CaptionDataset,
    root="data/shapes",
    annotations="captions_train.jsonl",
    caption="first",
    loading=dict(cache_images=True),
    pipeline=[dict(type=LoadImage), dict(type=PackSample)],
)

max_iters, warmup_iters = 500, 50
param_scheduler[0]["end"] = param_scheduler[1]["begin"] = warmup_iters
param_scheduler[1]["end"] = max_iters
train_cfg.update(max_iters=max_iters, val_interval=max_iters)
default_hooks["checkpoint"].update(interval=max_iters)
