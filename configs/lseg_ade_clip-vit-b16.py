"""LSeg's head on CLIP's own image tower, ADE20K-150: our shared-backbone variant, not the paper's.

Paper: Language-driven Semantic Segmentation (arXiv 2201.03546), which uses an ImageNet ViT-L/16 for the images; here
both towers are CLIP ViT-B/16, so that one backbone serves every head of this library. AdamW, polynomial decay, warm-up.
Command: torchrun --nproc_per_node 8 tools/train.py configs/lseg_ade_clip-vit-b16.py --launcher pytorch --amp
Hardware: 8 GPUs of 16 GB, 4 images each; time not yet measured. Expected score: not yet measured.
"""

from mmengine.config import read_base

from openvocab.backbones.clip import CLIPBackbone
from openvocab.heads.lseg import LSegHead
from openvocab.model import OpenVocabModel
from openvocab.text.clip_text import CLIPTextEncoder

with read_base():
    from ._base_.datasets.ade20k import *
    from ._base_.runtime import *
    from ._base_.schedules.adamw_poly import *

clip = dict(model="ViT-B-16-quickgelu", pretrained="openai")
model = dict(
    type=OpenVocabModel,
    backbone=dict(type=CLIPBackbone, trainable="all", position_resize="bilinear", **clip),
    text_encoder=dict(type=CLIPTextEncoder, templates="lseg", **clip),
    head=dict(
        type=LSegHead,
        layers=(3, 6, 9, 12),
        decoder=dict(factors=(4, 2, 1, 0.5), dims=(96, 192, 384, 768), features=256),
    ),
)

sync_bn = "torch"
