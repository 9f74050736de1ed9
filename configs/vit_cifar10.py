"""ViT-B/16 fine-tuned on CIFAR-10 at 224 px, from ImageNet-21k: the original image classifier of the vision transformer.

Paper: An Image is Worth 16x16 Words (arXiv 2010.11929). Its tables fine-tune at 384 px, see `vit_cifar10_384.py`. The new
linear layer starts at zero, as there; the pretrained final norm is replaced by a new one (see `LinearHead`).
Command: torchrun --nproc_per_node 8 tools/train.py configs/vit_cifar10.py --launcher pytorch --amp
Another tower or file: --cfg-options model.backbone.model=NAME model.backbone.pretrained=FILE
Hardware: 8 GPUs of 16 GB (64 images each; the paper's batch of 512). Expected score: not yet measured.
"""

from mmengine.config import read_base

from openvocab.backbones.timm_backbone import TimmBackbone
from openvocab.heads.linear import LinearHead
from openvocab.model import OpenVocabModel
from openvocab.text.one_hot import OneHotTextEncoder

with read_base():
    from ._base_.datasets.cifar10 import *
    from ._base_.runtime import *
    from ._base_.schedules.sgd_cosine import *

model = dict(
    type=OpenVocabModel,
    backbone=dict(type=TimmBackbone, model="vit_base_patch16_224.orig_in21k", pretrained=True),
    text_encoder=dict(type=OneHotTextEncoder, classes=classes),
    head=dict(type=LinearHead, source="class_token", init_std=0.0),
)

default_hooks["checkpoint"].update(best="top1")
