"""GroupViT's head on CLIP ViT-B/16: our shared-backbone variant, not the paper's.

Paper: GroupViT: Semantic Segmentation Emerges from Text Supervision (arXiv 2202.11094). Its network groups tokens from the first
layer on and starts from random weights; here the same head starts at layer 9 of CLIP's image tower, and both towers are CLIP's.
Command: torchrun --nproc_per_node 8 tools/train.py configs/groupvit_clip-vit-b16_cc12m.py --launcher pytorch
Hardware: 8 GPUs of 40 GB, 256 pairs each; time not yet measured. Expected score: not yet measured.
"""

from mmengine.config import read_base
from torch.optim import AdamW

from openvocab.backbones.clip import CLIPBackbone
from openvocab.datasets.transforms import LoadImage, PackSample, RandomFlip, RandomResizedCrop
from openvocab.datasets.transforms.noun_prompts import AddNounPrompts, RuleNouns
from openvocab.datasets.web_captions import WebCaptionDataset
from openvocab.heads.groupvit import GroupViTHead
from openvocab.inference.unpadded_window import UnpaddedSlidingWindow
from openvocab.model import OpenVocabModel
from openvocab.text.clip_text import CLIPTextEncoder

with read_base():
    from ._base_.datasets.groupvit_voc import *
    from ._base_.runtime import *
    from ._base_.schedules.adamw_cosine import *

clip = dict(model="ViT-B-16-quickgelu", pretrained="openai")
model = dict(
    type=OpenVocabModel,
    backbone=dict(type=CLIPBackbone, trainable="all", **clip),
    text_encoder=dict(type=CLIPTextEncoder, templates="simple", **clip),
    head=dict(
        type=GroupViTHead,
        layers=(9,),
        transformer=dict(depths=(2, 2, 1), num_groups=(64, 8, 0), num_heads=12),
        multi_label=dict(num_prompts=3),
        scoring=dict(background_threshold=0.95),
    ),
    inference=dict(type=UnpaddedSlidingWindow, window=448, stride=224),
)

train_dataloader = dict(
    batch_size=256,
    num_workers=6,
    persistent_workers=True,
    drop_last=True,
    sampler=None,
    dataset=dict(
        type=WebCaptionDataset,
        root="data/captions",
        shards=["cc12m/*.tar"],
        shuffle_buffer=10_000,
        pipeline=[
            dict(type=LoadImage),
            dict(type=RandomResizedCrop, size=(224, 224), area=(0.2, 1.0)),
            dict(type=RandomFlip, prob=0.5),
            dict(type=AddNounPrompts, count=3, extractor=dict(type=RuleNouns), templates="imagenet80"),
            dict(type=PackSample),
        ],
    ),
)

max_iters, warmup_iters = 30_000, 2_000
optim_wrapper["optimizer"] = dict(type=AdamW, lr=5e-4, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05)
optim_wrapper["paramwise_cfg"]["custom_keys"]["backbone"] = dict(lr_mult=0.05)
optim_wrapper["clip_grad"] = dict(max_norm=5.0)
optim_wrapper["amp"] = "auto"
param_scheduler[0]["end"] = param_scheduler[1]["begin"] = warmup_iters
param_scheduler[1]["end"] = max_iters
train_cfg.update(max_iters=max_iters, val_interval=5_000)
sync_bn = "torch"
