"""Dense CLIP on COCO-Stuff 171, with the protocol of the training-free papers; nothing is trained.

Paper: SC-CLIP (arXiv 2411.15869), protocol of SCLIP (arXiv 2312.01597): `_base_/training_free.py`.
Command: python tools/test.py configs/dense_clip_coco_stuff.py
Other readouts: --cfg-options model.backbone.readout=naclip (all of them, with their settings: docs/training_free.md)
Hardware: one GPU. Expected score: not yet measured. Published mIoU: SC-CLIP 26.6, SFP 26.4, NACLIP with PAMR 25.7, SCLIP 22.8.
"""

from mmengine.config import read_base

with read_base():
    from ._base_.datasets.coco_stuff import *
    from ._base_.runtime import *
    from ._base_.training_free import *

val_dataloader["dataset"].update(
    classes="sclip_coco_stuff_171", class_options=dict(synonym_merge="max"), pipeline=pipeline
)
test_dataloader = val_dataloader
