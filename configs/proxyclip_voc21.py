"""ProxyCLIP on PASCAL VOC 2012 with background: CLIP's values, mixed by DINO's similarity; nothing is trained.

Paper: ProxyCLIP (arXiv 2408.04883), DINO ViT-B/8: windows of 336 px and its own class names, everything else as in
`_base_/training_free.py`. The paper pads windows of smaller images to a multiple of 56 px, and ours are not padded: with a
short side of 336 px, this concerns only images more than six times as long as they are wide.
Other datasets: the same lines on another `dense_clip_*.py`, with the thresholds in docs/training_free.md.
Command: python tools/test.py configs/proxyclip_voc21.py
Hardware: one GPU. Expected score: not yet measured. Published mIoU: 61.3; 42.3 is the mean over this and
seven others (35.3 Context60, 37.5 Object, 80.3 VOC20, 39.1 Context59, 26.5 Stuff, 38.1 Cityscapes, 20.2 ADE).
"""

from mmengine.config import read_base

from openvocab.backbones.dino import DINOBackbone
from openvocab.backbones.proxyclip import ProxyCLIPBackbone

with read_base():
    from .dense_clip_voc21 import *

model["backbone"] = dict(
    type=ProxyCLIPBackbone,
    proxy=dict(type=DINOBackbone, model="vit_base_patch8_224.dino", pretrained=True),
    **clip,
)
model["head"].update(logit_scale=40.0, background_threshold=0.2, area_threshold=None)
model["inference"].update(window=336)
val_dataloader["dataset"].update(classes="proxyclip_voc_21")
test_dataloader = val_dataloader
