"""RF-CLIP's text side on Shapes: text embeddings are moved towards the image features of their class. Its readout is for transformers only.

Paper: RF-CLIP's text side, first in CASS (arXiv 2411.17150), on the tiny CLIP that `clip_shapes.py` trains.
Command: python tools/test.py configs/rfclip_shapes.py work_dirs/clip_shapes/last.pth
Hardware: 2 CPU cores, a few minutes. Expected score: not yet measured.
"""

from mmengine.config import read_base

from openvocab.heads.rfclip import RFCLIPHead

with read_base():
    from .dense_clip_shapes import *

model["head"] = dict(
    type=RFCLIPHead,
    logit_scale=None,
    background_threshold=0.05,
    image_share=0.1,
    patch_share=0.03,
    cluster_distance=0.1,
)
