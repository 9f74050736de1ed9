"""LSeg's zero-shot form on PASCAL-5i: ResNet-101 and the text tower of CLIP ViT-B/32, vocabulary ("others", class).

Paper: Language-driven Semantic Segmentation (arXiv 2201.03546), table 1. The official hyper-parameters of this form
were never published (isl-org/lang-seg issues 19 and 34): rate and length here are the code's defaults.
Command, fold 0: python tools/train.py configs/lseg_pascal5i.py && python tools/test.py configs/lseg_pascal5i.py
work_dirs/lseg_pascal5i/best.pth
Fold 1 to 3: --cfg-options train_dataloader.dataset.fold=1 val_dataloader.dataset.fold=1
test_dataloader.dataset.fold=1, and --work-dir work_dirs/lseg_pascal5i_fold1.
Hardware: one GPU of 12 GB; time not yet measured. Expected score: not yet measured. Paper, folds 0 to 3: 52.8, 53.8,
44.4, 38.5 mIoU over the fold's five classes.
"""

from mmengine.config import read_base

from openvocab.backbones.timm_backbone import TimmBackbone
from openvocab.heads.lseg import LSegHead
from openvocab.model import OpenVocabModel
from openvocab.text.clip_text import CLIPTextEncoder

with read_base():
    from ._base_.datasets.pascal5i import *
    from ._base_.runtime import *
    from ._base_.schedules.sgd_poly import *

model = dict(
    type=OpenVocabModel,
    backbone=dict(type=TimmBackbone, model="resnet101.tv_in1k", pretrained=True, trainable="all"),
    text_encoder=dict(type=CLIPTextEncoder, model="ViT-B-32-quickgelu", pretrained="openai", templates="lseg"),
    head=dict(
        type=LSegHead,
        layers=(1, 2, 3, 4),  # the four stages, straight into the decoder
        factors=None,
        features=256,
    ),
)

max_iters = 24_000  # four epochs of some 6,000 images, one at a time
optim_wrapper["accumulative_counts"] = 2  # the official batch: support and query
optim_wrapper["optimizer"]["lr"] = 0.004 / 16
param_scheduler[0]["end"] = max_iters
train_cfg.update(max_iters=max_iters, val_interval=6_000)
