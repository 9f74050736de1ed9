"""F-VLM on Shapes: a detector on a frozen CLIP, trained on 36 classes and tested on 48.

Paper: F-VLM: Open-Vocabulary Object Detection upon Frozen Vision and Language Models (arXiv 2209.15639), at small scale.
Scores are those of the released code, the default: softmaxes over 48 classes and the background, fused, as fractions of their
sum.
Command: python tools/train.py configs/fvlm_shapes.py && python tools/test.py configs/fvlm_shapes.py
work_dirs/fvlm_shapes/best.pth
Files: data/shapes (tools/make_shapes.py) and work_dirs/clip_shapes/last.pth (clip_shapes.py).
Hardware: 2 CPU cores, 7 minutes. Expected score: box AP50 base 64.5 ± 1.1, novel 56.6 ± 1.6 (three
seeds); with scores="without background" 62.9 ± 1.3 and 53.8 ± 0.9 with the same weights.
"""

from mmengine.config import read_base

from openvocab.backbones.clip import CLIPBackbone
from openvocab.heads.fvlm import FVLMHead
from openvocab.model import OpenVocabModel
from openvocab.text.clip_text import CLIPTextEncoder

with read_base():
    from .vild_text_shapes import *

model = dict(
    type=OpenVocabModel,
    backbone=dict(type=CLIPBackbone, trainable="none", **clip),
    text_encoder=dict(type=CLIPTextEncoder, templates="none", **clip),
    head=dict(type=FVLMHead, temperature=0.05, clip_temperature=0.05, clip_region_size=8, detector=detector),
)
