"""Dense CLIP on Shapes: without training, each patch gets the nearest name.

Paper: MaskCLIP (arXiv 2112.01071) on the tiny CLIP that `clip_shapes.py` trains: its tower is convolutional, so the head of
the tower is applied to each position. For transformers see docs/training_free.md.
Command: python tools/test.py configs/dense_clip_shapes.py work_dirs/clip_shapes/last.pth
Hardware: 2 CPU cores, under a minute. Expected score: see docs/results.md, measured by the command above.
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
    text_encoder=dict(
        type=CLIPTextEncoder, templates="none", **clip
    ),  # patches were trained with bare names as noun prompts
    # Of 0.05, 0.1, 0.2 and 0.3, the threshold with the best mIoU on two seeds. No caption contains "background": it is what
    # no object name matches, at the temperature that CLIP learned.
    head=dict(type=DenseCLIPHead, logit_scale=None, background_threshold=0.05),
)
