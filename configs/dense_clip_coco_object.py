"""Dense CLIP on COCO-Object, with the protocol of the training-free papers; nothing is trained.

Paper: SC-CLIP (arXiv 2411.15869), protocol of SCLIP (arXiv 2312.01597): `_base_/training_free.py`.
The background is 25 names of stuff; results call it "sky", the first of them. The published list also contains "bed" there, where it
ties with the class of that name, which could then never win.
Command: python tools/test.py configs/dense_clip_coco_object.py
Other readouts: --cfg-options model.backbone.readout=naclip (all of them, with their settings: docs/training_free.md)
Hardware: one GPU. Expected score: not yet measured. Published mIoU: SC-CLIP 37.7, SFP 37.9, NACLIP with PAMR 36.2, SCLIP 33.5.
"""

from mmengine.config import read_base

with read_base():
    from ._base_.datasets.groupvit_coco_object import *
    from ._base_.runtime import *
    from ._base_.training_free import *

val_dataloader["dataset"].update(
    classes="sclip_coco_object_81", class_options=dict(background="sky", synonym_merge="max"), pipeline=pipeline
)
test_dataloader = val_dataloader
model["head"].update(logit_scale=55.0, background_threshold=0.35)
