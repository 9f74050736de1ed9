"""Dense CLIP on Shapes, classified per pixel as in the training-free papers; `dense_clip_shapes.py` classifies per patch.

Paper: SCLIP's protocol (arXiv 2312.01597) on the tiny CLIP that `clip_shapes.py` trains.
Command: python tools/test.py configs/training_free_shapes.py work_dirs/clip_shapes/last.pth
Hardware: 2 CPU cores, a few minutes. Expected score: not yet measured.
"""

from mmengine.config import read_base

from openvocab.heads.training_free import TrainingFreeHead

with read_base():
    from .dense_clip_shapes import *

model["head"] = dict(type=TrainingFreeHead, logit_scale=None, background_threshold=0.05)
