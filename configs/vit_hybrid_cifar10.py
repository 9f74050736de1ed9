"""The hybrid ViT on CIFAR-10: a ResNet-50 instead of the patch embedding of ViT-B/16, from ImageNet-21k.

Paper: An Image is Worth 16x16 Words (arXiv 2010.11929), section 3.1, "hybrid architecture". Recipe of `vit_cifar10.py`.
Command: torchrun --nproc_per_node 8 tools/train.py configs/vit_hybrid_cifar10.py --launcher pytorch --amp
Hardware: 8 GPUs of 16 GB. Expected score: not yet measured.
"""

from mmengine.config import read_base

with read_base():
    from .vit_cifar10 import *

model["backbone"].update(model="vit_base_r50_s16_224.orig_in21k")
