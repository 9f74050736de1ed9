"""F-VLM on COCO, 48 base and 17 novel classes: a detector on a frozen CLIP ResNet-50.

Paper: F-VLM: Open-Vocabulary Object Detection upon Frozen Vision and Language Models (arXiv 2209.15639). Network of the
released code, and its 100 detections above 0.05. Departures: as in `fvlm_lvis_rn50.py`, except for the detections. The
schedule of the paper's COCO table is not released; the code's defaults are 46,100 steps of 256 images at a rate of
0.36. Here there are as many steps, on 8 GPUs: batches of 64 (27 epochs) at a quarter of the rate. On 32 GPUs,
--cfg-options optim_wrapper.optimizer.lr=0.36 gives the code's recipe. Masks are trained too, as in the paper's network (the
released file for COCO excludes them).
Command: torchrun --nproc_per_node 8 tools/train.py configs/fvlm_coco_rn50.py --launcher pytorch
Hardware: 8 GPUs; time and memory not yet measured. Expected score: not yet measured. Paper: box AP50 of novel classes
28.0.
"""

from mmengine.config import read_base

from openvocab.backbones.clip import CLIPBackbone
from openvocab.datasets.transforms import Resize
from openvocab.heads.fvlm import FVLMHead
from openvocab.model import OpenVocabModel
from openvocab.text.clip_text import CLIPTextEncoder

with read_base():
    from ._base_.datasets.coco_detection import *
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
        base_weight=0.2,
        novel_weight=0.45,
        detector=dict(
            pyramid=dict(layers=(1, 2, 3, 4), output_norm="slow_batch", extra="convolve"),  # strides 4 to 64
            proposals=dict(convs=2, norm="slow_batch"),
            align=dict(sampling_ratio=1, aligned=False, read_extra_levels=True),
            box_head=dict(convs=4, layers=1, norm="slow_batch", norm_linears=True),
            masks=dict(norm="slow_batch", norm_upsampled=True),
            detections=dict(max_detections=100, min_score=0.05),
        ),
    ),
)

max_iters = 46_100
train_dataloader["batch_size"] = 8
val_dataloader["dataset"]["pipeline"][1] = dict(type=Resize, long_side=1024)
test_dataloader = val_dataloader
optim_wrapper["optimizer"]["lr"] = 0.36 * 64 / 256
optim_wrapper["paramwise_cfg"]["bias_decay_mult"] = 1.0
param_scheduler[0]["start_factor"] = 0.0032 / 0.36
param_scheduler[1]["milestones"] = [36_880, 41_490, 43_795]
train_cfg.update(max_iters=max_iters, val_interval=5_000)
default_hooks["checkpoint"].update(interval=5_000, best="ovd_box_AP50_base")
sync_bn = "torch"
