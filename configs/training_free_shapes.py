"""Dense CLIP on Shapes, decided on pixels as the training-free papers do; `dense_clip_shapes.py` decides on patches.

Paper: SCLIP's protocol (arXiv 2312.01597) on the tiny CLIP that `clip_shapes.py` trains.
Command: python tools/test.py configs/training_free_shapes.py work_dirs/clip_shapes/last.pth
Hardware: 2 CPU cores, a few minutes. Expected score: not yet measured.
"""

from mmengine.config import read_base

from openvocab.heads.training_free import TrainingFreeHead

with read_base():
    from .dense_clip_shapes import *

model["head"] = dict(type=TrainingFreeHead, logit_scale=None, background_threshold=0.05)
