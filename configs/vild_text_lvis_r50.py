"""ViLD-text on LVIS, the official network from random weights; its proposals are those of the teacher of `vild_lvis_r50.py`.

Paper: Open-vocabulary Object Detection via Vision and Language Knowledge Distillation (arXiv 2104.13921). Official
recipe: 180,000 steps of 256 images, SGD, rate 0.32, divided by ten at 162,000 and at 171,000, decay of 4e-5 on kernels,
large-scale jitter, 1024 px at test, synchronized batch norms everywhere.
Departures: rare classes are excluded from the softmax, since they have no labels to learn from (official: their logits are
0, which is more than that of a base class whose cosine is negative; --cfg-options
train_dataloader.dataset.class_options.train_classes=seen_labels model.head.unseen_logits=zero); texts have the 63 templates of the
paper's demo and no synonyms (official rows are a file of arrays, whose texts are not published). The other departures
come from torchvision's proposal network and RoIAlign, which are used unchanged: anchors are at the corners of cells (official:
at their centers, half a stride or a 16th of an anchor away) and are rounded to pixels; a box is x2 - x1 wide (official: one
pixel more when offsets become boxes); points more than a pixel outside a map are zero (official: the value at its
edge). Proposal offsets of exactly zero count in the loss, while the official code treats them as padding.
Command: torchrun --nproc_per_node 8 --nnodes 4 --rdzv_backend c10d --rdzv_endpoint HOST:29500
tools/train.py configs/vild_text_lvis_r50.py --launcher pytorch
Files: see `_base_/datasets/lvis_detection.py`; the work dir must be shared by all machines.
Hardware: 32 GPUs; time and memory not yet measured. Expected score: not yet measured. Paper: mask AP 24.9, AP_r 10.1.
"""

from mmengine.config import read_base

from openvocab.backbones.timm_backbone import TimmBackbone
from openvocab.datasets.transforms import Resize
from openvocab.heads.vild import ViLDHead
from openvocab.model import OpenVocabModel
from openvocab.text.clip_text import CLIPTextEncoder

with read_base():
    from ._base_.datasets.lvis_detection import *
    from ._base_.runtime import *
    from ._base_.schedules.sgd_steps import *

clip = dict(model="ViT-B-32-quickgelu", pretrained="openai")
model = dict(
    type=OpenVocabModel,
    backbone=dict(type=TimmBackbone, model="resnet50", resnet_style="tensorflow", trainable="all"),
    text_encoder=dict(type=CLIPTextEncoder, templates="vild63", **clip),
    head=dict(
        type=ViLDHead,
        variant="text",
        temperature=0.01,
        detector=dict(
            pyramid=dict(layers=(1, 2, 3, 4), output_norm="slow_batch", extra="convolve"),  # strides 4 to 64
            proposals=dict(convs=2, norm="slow_batch"),
            align=dict(sampling_ratio=1, aligned=False, read_extra_levels=True),
            box_head=dict(convs=4, layers=2, norm="slow_batch", norm_linears=True),
            masks=dict(norm="slow_batch", norm_upsampled=True),
        ),
    ),
)

max_iters = 180_000
train_dataloader["batch_size"] = 8
val_dataloader["dataset"]["pipeline"][1] = dict(type=Resize, long_side=1024)
test_dataloader = val_dataloader
optim_wrapper["optimizer"].update(lr=0.32, weight_decay=4e-5)
param_scheduler[1]["milestones"] = [162_000, 171_000]
train_cfg.update(max_iters=max_iters, val_interval=20_000)
default_hooks["checkpoint"].update(interval=5_000, best="lvis_mask_AP")
sync_bn = "torch"
