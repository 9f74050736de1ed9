"""The official GroupViT: network, augmentation and optimizer. A config adds its shards, their iterations and the noun prompts.

Departures: bfloat16, if it is faster, instead of apex's float16, which needs a scaled loss; mmengine's linear warm-up,
which reaches the full rate one step earlier.
"""

from mmengine.config import read_base
from torch.optim import AdamW

from openvocab.backbones.patch_embedding import PatchEmbedding
from openvocab.datasets.transforms import (
    LoadImage,
    PackSample,
    RandAugment,
    RandomErasing,
    RandomFlip,
    RandomResizedCrop,
)
from openvocab.datasets.web_captions import WebCaptionDataset
from openvocab.engine.unshifted_cosine import UnshiftedCosineLR
from openvocab.heads.groupvit import GroupViTHead
from openvocab.inference.unpadded_window import UnpaddedSlidingWindow
from openvocab.model import OpenVocabModel
from openvocab.text.clip_text import CLIPTextEncoder

with read_base():
    from .datasets.groupvit_voc import *
    from .runtime import *
    from .schedules.adamw_cosine import *

model = dict(
    type=OpenVocabModel,
    backbone=dict(type=PatchEmbedding, width=384, patch_size=16, image_size=224),
    text_encoder=dict(
        type=CLIPTextEncoder, model="GroupViT", projector=(4096, 256), templates="simple", trainable="all"
    ),
    head=dict(
        type=GroupViTHead,
        transformer=dict(depths=(6, 3, 3), num_groups=(64, 8, 0)),
        multi_label=dict(num_prompts=0),
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
        shuffle_buffer=10_000,
        pipeline=[
            dict(type=LoadImage),
            dict(type=RandomResizedCrop, size=(224, 224), area=(0.08, 1.0), interpolation="bilinear"),
            dict(type=RandomFlip, prob=0.5),
            # with it, timm omits the color jitter of 0.4, which the official settings also contain
            dict(type=RandAugment, policy="rand-m9-mstd0.5-inc1", interpolation="bilinear"),
            dict(type=RandomErasing, prob=0.25),
            dict(type=PackSample),
        ],
    ),
)

optim_wrapper["optimizer"] = dict(type=AdamW, lr=1.6e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05)
# parameters with two dimensions or none are decayed: the two temperatures, positions and group tokens too
optim_wrapper["paramwise_cfg"] = dict(norm_decay_mult=0.0, bias_decay_mult=0.0, flat_decay_mult=0.0)
optim_wrapper["clip_grad"] = dict(max_norm=5.0)
optim_wrapper["amp"] = "auto"
param_scheduler[0].update(start_factor=2.5e-3)
param_scheduler[1].update(type=UnshiftedCosineLR, eta_min=4e-5)
train_cfg.update(val_interval=20_000)
sync_bn = "torch"
