"""LSeg on ADE20K-150 as published: timm's ViT-L/16 384, the text tower of CLIP ViT-B/32 and bare class names.

Paper: Language-driven Semantic Segmentation (arXiv 2201.03546), official recipe: SGD 0.9, weight decay 1e-4, 240
epochs, one image per GPU, gradients of two batches per step, rate 0.004 / 16 per image on a GPU, ten times that for the decoder,
polynomial decay 0.9, synchronized batch norm, float32, crops of 480 px from a long side of 260 to 1040. Departures: the rate falls
per iteration (official: per epoch, see `_base_/schedules/sgd_poly.py`); images are shrunk without antialiasing (see
`_base_/datasets/ade20k.py`).
Command: torchrun --nproc_per_node 8 tools/train.py configs/lseg_ade.py --launcher pytorch
Official weights: python tools/convert_checkpoint.py lseg official.ckpt lseg_ade.pth
Official test, six scales and flip: python tools/test.py configs/lseg_ade_multi_scale.py lseg_ade.pth
The classes have the names that the official weights were trained on, shortened as in the official code ("arcade", "crt", and
"screen" twice): other names, such as those of `ade20k_150`, give other texts.
Hardware: 8 GPUs of 24 GB; 606,300 iterations, time not yet measured. Expected score: not yet measured. Paper: 43.6
mIoU, 82.5 pixel accuracy, both with six scales and flip.
"""

from mmengine.config import read_base

from openvocab.backbones.timm_backbone import TimmBackbone
from openvocab.heads.lseg import LSegHead
from openvocab.inference.whole_image import WholeImage
from openvocab.model import OpenVocabModel
from openvocab.text.clip_text import CLIPTextEncoder

with read_base():
    from ._base_.datasets.ade20k import *
    from ._base_.runtime import *
    from ._base_.schedules.sgd_poly import *

model = dict(
    type=OpenVocabModel,
    backbone=dict(type=TimmBackbone, model="vit_large_patch16_384", pretrained=True, trainable="all"),
    text_encoder=dict(type=CLIPTextEncoder, model="ViT-B-32-quickgelu", pretrained="openai", templates="lseg"),
    head=dict(
        type=LSegHead,
        layers=(6, 12, 18, 24),
        decoder=dict(factors=(4, 2, 1, 0.5), dims=(256, 512, 1024, 1024), features=256, readout="project"),
        logit_scale=1 / 0.07,
    ),
    inference=dict(type=WholeImage),
)

max_iters = 606_300  # 240 epochs of 20,210 images, 8 at a time
train_dataloader["batch_size"] = 1
optim_wrapper["accumulative_counts"] = 2
optim_wrapper["optimizer"]["lr"] = 0.004 / 16
# The official code gives the higher rate to the fusion and the projection, not to the reassembling layers.
optim_wrapper["paramwise_cfg"]["custom_keys"]["head.reassemble"] = dict(lr_mult=1.0)
param_scheduler[0]["end"] = max_iters
train_cfg.update(max_iters=max_iters, val_interval=25_000)
sync_bn = "torch"

train_dataloader["dataset"].update(classes="lseg_ade_150", class_options=dict(repeated_names=["screen"]))
val_dataloader["dataset"].update(classes="lseg_ade_150", class_options=dict(repeated_names=["screen"]))
test_dataloader = val_dataloader
