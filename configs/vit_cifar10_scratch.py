"""ViT-B/16 on CIFAR-10 from random weights at 224 px, as tutorials train it: Adam at 1e-4, batches of 128, 10 epochs.

Paper: An Image is Worth 16x16 Words (arXiv 2010.11929), which finds that such a network needs far more data than this. This is the
exercise of tutorials, not the paper's recipe, which is `vit_cifar10.py`: the same network fine-tuned from ImageNet-21k by
SGD. The whole image is enlarged to 224 px and flipped at random; the rate is constant.
Command: python tools/train.py configs/vit_cifar10_scratch.py --amp
Another tower: --cfg-options model.backbone.model=vit_small_patch16_224
Hardware: one GPU of 24 GB. Expected score: not yet measured.
"""

from mmengine.config import read_base
from torch.optim import Adam

from openvocab.backbones.timm_backbone import TimmBackbone
from openvocab.datasets.transforms import PackSample, RandomFlip, ResizeCenterCrop
from openvocab.engine.optim_wrapper import SafeOptimWrapper
from openvocab.engine.train_loop import TrainLoop
from openvocab.heads.linear import LinearHead
from openvocab.model import OpenVocabModel
from openvocab.text.one_hot import OneHotTextEncoder

with read_base():
    from ._base_.datasets.cifar10 import *
    from ._base_.runtime import *

model = dict(
    type=OpenVocabModel,
    backbone=dict(type=TimmBackbone, model="vit_base_patch16_224", pretrained=None),
    text_encoder=dict(type=OneHotTextEncoder, classes=classes),
    head=dict(type=LinearHead, source="class_token"),
)

train_dataloader["batch_size"] = 128
train_dataloader["dataset"]["pipeline"] = [
    dict(type=ResizeCenterCrop, size=(224, 224), interpolation="bilinear"),
    dict(type=RandomFlip, prob=0.5),
    dict(type=PackSample),
]

optim_wrapper = dict(type=SafeOptimWrapper, optimizer=dict(type=Adam, lr=1e-4))
# 10 epochs of 50,000 images, 391 batches each
train_cfg = dict(type=TrainLoop, max_iters=3_910, val_interval=391)
default_hooks["checkpoint"].update(best="top1", interval=391)
