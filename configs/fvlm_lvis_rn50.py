"""F-VLM on LVIS, 866 base and 337 novel classes: a detector on a frozen CLIP ResNet-50.

Paper: F-VLM: Open-Vocabulary Object Detection upon Frozen Vision and Language Models (arXiv 2209.15639). Network and
recipe of the released code: 46,100 steps of 256 images, SGD, rate 0.36 with drops at 80, 90 and 95 %, decay of 1e-4 on
all but norms, large-scale jitter to 1024 px, the empty text as background at 0.9 of a class's weight.
Departures: 1,000 steps of warm-up as in ViLD, whose code it builds on (the only published file, a run of 4 images of
COCO on one GPU, has 100); 300 detections with any score, which LVIS requires (the code's default: 100 above 0.05);
anchors, box sizes and borders of feature maps are torchvision's, see `vild_text_lvis_r50.py`, whose official detector the
released one follows; texts have the templates of ViLD's demo (released: arrays, whose texts are not published).
Command: torchrun --nproc_per_node 8 --nnodes 4 --rdzv_backend c10d --rdzv_endpoint HOST:29500
tools/train.py configs/fvlm_lvis_rn50.py --launcher pytorch
Files: see `_base_/datasets/lvis_detection.py`; the work dir must be shared by all machines.
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
            pyramid=dict(layers=(1, 2, 3, 4), output_norm="slow_batch", extra="convolve"),  # strides 4 to 64
            proposals=dict(convs=2, norm="slow_batch"),
            align=dict(sampling_ratio=1, aligned=False, read_extra_levels=True),
            box_head=dict(convs=4, layers=1, norm="slow_batch", norm_linears=True),
            masks=dict(norm="slow_batch", norm_upsampled=True),
        ),
    ),
)

max_iters = 46_100
train_dataloader["batch_size"] = 8
val_dataloader["dataset"]["pipeline"][1] = dict(type=Resize, long_side=1024)
test_dataloader = val_dataloader
optim_wrapper["optimizer"]["lr"] = 0.36
optim_wrapper["paramwise_cfg"]["bias_decay_mult"] = 1.0
param_scheduler[0]["start_factor"] = 0.0032 / 0.36
param_scheduler[1]["milestones"] = [36_880, 41_490, 43_795]
train_cfg.update(max_iters=max_iters, val_interval=5_000)
default_hooks["checkpoint"].update(interval=5_000, best="lvis_mask_AP")
sync_bn = "torch"
