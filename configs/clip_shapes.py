"""CLIP on Shapes: the tiny model that the other Shapes configs start from, trained from scratch on captions alone.

Paper: Learning Transferable Visual Models From Natural Language Supervision (arXiv 2103.00020), at small scale, with GroupViT's
loss over noun prompts (arXiv 2202.11094) in addition: with captions alone, most seeds learn colors and few forms
(`infonce_shapes.py`).
Command: python tools/make_shapes.py && python tools/train.py configs/clip_shapes.py
Hardware: 2 CPU cores. Expected score: see docs/results.md; zero-shot top1 over 48 classes of single objects, by
python tools/test.py configs/clip_shapes.py work_dirs/clip_shapes/last.pth
"""

from mmengine.config import read_base

from openvocab.backbones.clip import CLIPBackbone
from openvocab.datasets.transforms import LoadImage, PackSample
from openvocab.datasets.transforms.noun_prompts import AddNounPrompts, RuleNouns
from openvocab.heads.contrastive import ContrastiveHead
from openvocab.heads.terms import CaptionContrast, NounContrast
from openvocab.model import OpenVocabModel
from openvocab.text.clip_text import CLIPTextEncoder

with read_base():
    from ._base_.shapes_pretraining import *

model = dict(
    type=OpenVocabModel,
    backbone=dict(type=CLIPBackbone, model="ConvNet-8-shapes", trainable="all"),
    text_encoder=dict(type=CLIPTextEncoder, model="ConvNet-8-shapes", templates="simple", trainable="all"),
    head=dict(
        type=ContrastiveHead,
        terms=[dict(type=CaptionContrast), dict(type=NounContrast, count=3, match="patch", weight=3.0)],
    ),
)

# Nouns are the last two words of each phrase: "red circle" of "striped red circle".
train_dataloader["dataset"]["pipeline"] = [
    dict(type=LoadImage),
    dict(type=AddNounPrompts, count=3, extractor=dict(type=RuleNouns, words=2), templates="none", repeat=True),
    dict(type=PackSample),
]

max_iters, warmup_iters = 500, 50
param_scheduler[0]["end"] = param_scheduler[1]["begin"] = warmup_iters
param_scheduler[1]["end"] = max_iters
train_cfg.update(max_iters=max_iters, val_interval=max_iters)
default_hooks["checkpoint"].update(interval=max_iters)
