"""Dense CLIP on Shapes: no training at all; each patch takes the name nearest to it.

Paper: NACLIP (arXiv 2404.08181) on the tiny CLIP that `clip_shapes.py` trains; MaskCLIP, SCLIP and ClearCLIP by
--cfg-options model.backbone.readout=maskclip (sclip, clearclip).
Command: python tools/test.py configs/dense_clip_shapes.py
Hardware: 2 CPU cores, under a minute. Expected score: not yet measured.
"""

from mmengine.config import read_base

from openvocab.backbones.clip import CLIPBackbone
from openvocab.heads.dense_clip import DenseCLIPHead
from openvocab.model import OpenVocabModel
from openvocab.text.clip_text import CLIPTextEncoder

with read_base():
    from ._base_.datasets.shapes_segmentation import *
    from ._base_.runtime import *

clip = dict(model="ConvNet-8-shapes", pretrained="work_dirs/clip_shapes/last.pth")
model = dict(
    type=OpenVocabModel,
    backbone=dict(type=CLIPBackbone, **clip),
    text_encoder=dict(type=CLIPTextEncoder, templates="simple", **clip),
    # No caption says "background": it is what no object's name explains, by the temperature that CLIP learned.
    head=dict(type=DenseCLIPHead, logit_scale=None, background_threshold=0.1),
)
