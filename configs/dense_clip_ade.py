"""Dense CLIP on ADE20K-150: no training at all; each patch takes the name nearest to it.

Paper: NACLIP (arXiv 2404.08181), ViT-B/16; MaskCLIP (arXiv 2112.01071), SCLIP (arXiv 2312.01597) and ClearCLIP (arXiv
2407.12442) by --cfg-options model.backbone.readout=maskclip (sclip, clearclip).
Command: python tools/test.py configs/dense_clip_ade.py
Hardware: any; one GPU a few minutes for the 2000 validation images. Expected score: not yet measured. Papers: NACLIP 19.1
with PAMR refinement, which is not done here, SCLIP 16.5 mIoU; they slide a 224 px window over a short side of 336 px,
while this config shows the network the whole image of the data set's test pipeline.
"""

from mmengine.config import read_base

from openvocab.backbones.clip import CLIPBackbone
from openvocab.heads.dense_clip import DenseCLIPHead
from openvocab.model import OpenVocabModel
from openvocab.text.clip_text import CLIPTextEncoder

with read_base():
    from ._base_.datasets.ade20k import *
    from ._base_.runtime import *

clip = dict(model="ViT-B-16-quickgelu", pretrained="openai")
model = dict(
    type=OpenVocabModel,
    backbone=dict(type=CLIPBackbone, readout="naclip", **clip),
    text_encoder=dict(type=CLIPTextEncoder, templates="imagenet80", **clip),
    head=dict(type=DenseCLIPHead, logit_scale=40.0),
)
