"""F-VLM on LVIS, 866 base and 337 novel classes: a detector on a frozen CLIP ResNet-50.

Paper: F-VLM: Open-Vocabulary Object Detection upon Frozen Vision and Language Models (arXiv 2209.15639). Network and
recipe of the released code: 46,100 steps of 256 images, SGD, rate 0.36 with drops at 80, 90 and 95 %, large-scale
jitter to 1024 px. Departures: background is a learned vector (released: the embedding of an empty text) and weighs as
much as a class (released: 0.9 of it); the pyramid and the reading of regions are torchvision's.
Command: torchrun --nproc_per_node 8 --nnodes 4 --rdzv_backend c10d --rdzv_endpoint HOST:29500
tools/train.py configs/fvlm_lvis_rn50.py --launcher pytorch
Files: see `_base_/datasets/lvis_detection.py`; a work dir that all machines share.
Hardware: 32 GPUs; time and memory not yet measured. Expected score: not yet measured. Paper: mask AP_r 18.6.
"""

from mmengine.config import read_base

from openvocab.backbones.clip import CLIPBackbone
from openvocab.datasets.transforms import Resize
from openvocab.heads.fvlm import FVLMHead
from openvocab.model import OpenVocabModel
from openvocab.text.clip_text import CLIPTextEncoder

with read_base():
    from ._base_.datasets.lvis_detection import *
    from ._base_.runtime import *
    from ._base_.schedules.sgd_steps import *

clip = dict(model="RN50-quickgelu", pretrained="openai")
model = dict(
    type=OpenVocabModel,
    backbone=dict(type=CLIPBackbone, trainable="none", **clip),
    text_encoder=dict(type=CLIPTextEncoder, templates="vild63", **clip),
    head=dict(
        type=FVLMHead,
        temperature=0.01,
        clip_temperature=0.01,
        clip_region_size=7,
        base_weight=0.35,
        novel_weight=0.65,
        detector=dict(
            pyramid=dict(layers=(1, 2, 3, 4), norm="batch"),  # strides 4 to 64
            proposals=dict(convs=2, norm="batch"),
            box_head=dict(convs=4, layers=1, norm="batch"),
            masks=dict(norm="batch"),
        ),
    ),
)

max_iters = 46_100
train_dataloader["batch_size"] = 8
val_dataloader["dataset"]["pipeline"][1] = dict(type=Resize, long_side=1024)
test_dataloader = val_dataloader
optim_wrapper["optimizer"]["lr"] = 0.36
param_scheduler[1]["milestones"] = [36_880, 41_490, 43_795]
train_cfg.update(max_iters=max_iters, val_interval=5_000)
default_hooks["checkpoint"].update(interval=5_000, best="lvis_mask_AP")
sync_bn = "torch"
