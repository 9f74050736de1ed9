"""LSeg's zero-shot form on FSS-1000: ResNet-101, CLIP ViT-B/32's text tower, vocabulary ("others", class).

Paper: Language-driven Semantic Segmentation (arXiv 2201.03546), table 3. Trained by the defaults of the official
code, since the hyperparameters of the table were never published: 20 episodes per GPU, for 200 epochs, over which
the rate falls to zero (on PASCAL-5i and COCO-20i, the code stops after 4 of the 200).
Command: python tools/train.py configs/lseg_fss1000.py && python tools/test.py configs/lseg_fss1000.py
work_dirs/lseg_fss1000/best.pth
Official weights: python tools/convert_checkpoint.py lseg official.ckpt lseg_fss1000.pth
Hardware: not yet measured; 40 images of 480 px on a GPU. Expected score: not yet measured. Paper: 84.7 mIoU over the
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
    backbone=dict(type=TimmBackbone, model="resnet101.tv_in1k", pretrained=True, trainable="all"),
    text_encoder=dict(type=CLIPTextEncoder, model="ViT-B-32-quickgelu", pretrained="openai", templates="lseg"),
    head=dict(
        type=LSegHead,
        layers=(1, 2, 3, 4),  # the four stages, straight into the decoder
        decoder=dict(factors=None, features=256),
    ),
)

epoch_iters = 260  # 5200 images, 20 at a time
max_iters = 200 * epoch_iters
param_scheduler[0]["end"] = 200 * epoch_iters
train_cfg.update(max_iters=max_iters, val_interval=epoch_iters * 10)
