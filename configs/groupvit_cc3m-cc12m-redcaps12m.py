"""GroupViT from CC3M, CC12M and RedCaps12M: the official network, data and recipe.

Paper: GroupViT: Semantic Segmentation Emerges from Text Supervision (arXiv 2202.11094), without the multi-label loss.
Command: torchrun --nproc_per_node 8 --nnodes 2 tools/train.py configs/groupvit_cc3m-cc12m-redcaps12m.py --launcher pytorch
Shards: one folder a data set under data/captions (`tools/make_shards.py` writes them); elsewhere:
--cfg-options train_dataloader.dataset.root=DIR
Official weights: python tools/convert_checkpoint.py groupvit group_vit_gcc_redcap_30e.pth groupvit.pth, then
python tools/test.py configs/groupvit_cc3m-cc12m-redcaps12m.py groupvit.pth (VOC; `groupvit_context.py` and `groupvit_coco_object.py` for the others)
Hardware: 16 GPUs of 16 GB, 256 pairs each; about 2 days on V100 in the paper. Expected score: not yet measured. Published:
ImageNet zero-shot 51.6 top-1; mIoU 50.8 on VOC, 23.7 on Context, 27.5 on COCO-Object.
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
from openvocab.heads.groupvit import GroupViTHead
from openvocab.inference.unpadded_window import UnpaddedSlidingWindow
from openvocab.model import OpenVocabModel
from openvocab.text.clip_text import CLIPTextEncoder

with read_base():
    from ._base_.datasets.groupvit_voc import *
    from ._base_.runtime import *
    from ._base_.schedules.adamw_cosine import *

model = dict(
    type=OpenVocabModel,
    backbone=dict(type=PatchEmbedding, width=384, patch_size=16, image_size=224),
    text_encoder=dict(
        type=CLIPTextEncoder, model="GroupViT", projector=(4096, 256), templates="simple", trainable="all"
    ),
    head=dict(
        type=GroupViTHead,
        depths=(6, 3, 3),
        num_groups=(64, 8, 0),
        num_prompts=0,
        background_threshold=0.95,
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
        name="cc3m_cc12m_redcaps12m",
        root="data/captions",
        shards=["cc3m/*.tar", "cc12m/*.tar", "redcaps12m/*.tar"],
        shuffle_buffer=10_000,
        pipeline=[
            dict(type=LoadImage),
            dict(type=RandomResizedCrop, size=(224, 224), area=(0.08, 1.0), interpolation="bilinear"),
            dict(type=RandomFlip, prob=0.5),
            # with it, timm leaves out the colour jitter of 0.4 that the official settings name too
            dict(type=RandAugment, policy="rand-m9-mstd0.5-inc1"),
            dict(type=RandomErasing, prob=0.25),
            dict(type=PackSample),
        ],
    ),
)

# 30 epochs of 25,914,635 pairs in batches of 4096; 2 of them warm up from 4e-6. The rate is linear in the batch.
max_iters, warmup_iters = 189_804, 12_653
optim_wrapper["optimizer"] = dict(type=AdamW, lr=1.6e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05)
optim_wrapper["clip_grad"] = dict(max_norm=5.0)
optim_wrapper["amp"] = "bf16"  # the paper: float16
param_scheduler[0].update(start_factor=2.5e-3, end=warmup_iters)
param_scheduler[1].update(eta_min=4e-5, begin=warmup_iters, end=max_iters)
train_cfg.update(max_iters=max_iters, val_interval=20_000)
sync_bn = "torch"
