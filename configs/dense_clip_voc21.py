"""Dense CLIP on PASCAL VOC 2012 with background, with the protocol of the training-free papers; nothing is trained.

Paper: SC-CLIP (arXiv 2411.15869), protocol of SCLIP (arXiv 2312.01597): `_base_/training_free.py`.
The background is 26 names of stuff; results call it "sky", the first of them.
Command: python tools/test.py configs/dense_clip_voc21.py
Other readouts: --cfg-options model.backbone.readout=naclip (all of them, with their settings: docs/training_free.md)
Hardware: one GPU. Expected score: not yet measured. Published mIoU: SC-CLIP 64.6, SFP 63.9, NACLIP with PAMR 64.1, SCLIP 59.6.
"""

from mmengine.config import read_base

with read_base():
    from ._base_.datasets.pascal_voc import *
    from ._base_.runtime import *
    from ._base_.training_free import *

val_dataloader["dataset"].update(
    classes="sclip_voc_21", class_options=dict(background="sky", synonym_merge="max"), pipeline=pipeline
)
test_dataloader = val_dataloader
model["head"].update(logit_scale=50.0, background_threshold=0.15, area_threshold=0.1)
