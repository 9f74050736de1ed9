"""LSeg's zero-shot form on COCO-20i: ViT-L/16, CLIP ViT-B/32's text tower, vocabulary ("others", class).

Paper: Language-driven Semantic Segmentation (arXiv 2201.03546), table 2. Trained by the defaults of the official
code, since the hyperparameters of the table were never published: 20 episodes per GPU, 4 epochs.
Command, fold 0: python tools/train.py configs/lseg_coco20i_vit-l16.py && python tools/test.py
configs/lseg_coco20i_vit-l16.py work_dirs/lseg_coco20i_vit-l16/best.pth
Fold 1 to 3: --cfg-options train_dataloader.dataset.fold=1 val_dataloader.dataset.fold=1
test_dataloader.dataset.fold=1, and --work-dir work_dirs/lseg_coco20i_vit-l16_fold1.
Official weights: python tools/convert_checkpoint.py lseg official.ckpt lseg_coco20i_vit-l16.pth
Hardware: not yet measured; 40 images of 480 px on a GPU. Expected score: not yet measured. Paper, folds 0 to 3: 28.1,
27.5, 30.0, 23.2 mIoU over the fold's twenty classes.
"""

from mmengine.config import read_base

from openvocab.backbones.timm_backbone import TimmBackbone
from openvocab.heads.lseg import LSegHead
from openvocab.model import OpenVocabModel
from openvocab.text.clip_text import CLIPTextEncoder

with read_base():
    from ._base_.datasets.coco20i import *
    from ._base_.runtime import *
    from ._base_.schedules.lseg_few_shot import *

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
)

epoch_iters = 3_102  # 62,040 episodes of fold 0, 20 at a time; folds 1 to 3: 3720, 3652, 3691
max_iters = 4 * epoch_iters
param_scheduler[0]["end"] = 200 * epoch_iters
train_cfg.update(max_iters=max_iters, val_interval=epoch_iters)
