"""LSeg's zero-shot form on FSS-1000: ViT-L/16, CLIP ViT-B/32's text tower, vocabulary ("others", class).

Paper: Language-driven Semantic Segmentation (arXiv 2201.03546), table 3. Trained by the defaults of the official
code, since the hyperparameters of the table were never published: 20 episodes per GPU, for 200 epochs, over which
the rate falls to zero (on PASCAL-5i and COCO-20i, the code stops after 4 of the 200).
Command: python tools/train.py configs/lseg_fss1000_vit-l16.py && python tools/test.py configs/lseg_fss1000_vit-l16.py
work_dirs/lseg_fss1000_vit-l16/best.pth
Official weights: python tools/convert_checkpoint.py lseg official.ckpt lseg_fss1000_vit-l16.pth
Hardware: not yet measured; 40 images of 480 px on a GPU. Expected score: not yet measured. Paper: 87.8 mIoU over the
240 test classes.
"""

from mmengine.config import read_base

from openvocab.backbones.timm_backbone import TimmBackbone
from openvocab.heads.lseg import LSegHead
from openvocab.model import OpenVocabModel
from openvocab.text.clip_text import CLIPTextEncoder

with read_base():
    from ._base_.datasets.fss1000 import *
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

epoch_iters = 260  # 5200 images, 20 at a time
max_iters = 200 * epoch_iters
param_scheduler[0]["end"] = 200 * epoch_iters
train_cfg.update(max_iters=max_iters, val_interval=epoch_iters * 10)
