"""GLIP on Shapes without fusion, GLIP-T (A)'s tower: images and texts meet only in the alignment.

Paper: Grounded Language-Image Pre-training (arXiv 2112.03857); see `glip_shapes.py`.
Command: python tools/train.py configs/glip_unfused_shapes.py && python tools/test.py configs/glip_unfused_shapes.py
work_dirs/glip_unfused_shapes/best.pth
Files: data/shapes (tools/make_shapes.py) and work_dirs/clip_shapes/last.pth (clip_shapes.py).
Hardware: 2 CPU cores. Expected: not yet measured.
"""

from mmengine.config import read_base

with read_base():
    from .glip_shapes import *

model["head"]["tower"].update(fused=False)
