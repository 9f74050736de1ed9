"""Dense CLIP on PASCAL VOC 2012 without background, with the protocol of the training-free papers; nothing is trained.

Paper: SC-CLIP (arXiv 2411.15869), protocol of SCLIP (arXiv 2312.01597): `_base_/training_free.py`.
Command: python tools/test.py configs/dense_clip_voc20.py
Other readouts: --cfg-options model.backbone.readout=naclip (all of them, with their settings: docs/training_free.md)
Hardware: one GPU. Expected score: not yet measured. Published mIoU: SC-CLIP 84.3, SFP 84.5, NACLIP with PAMR 83.0, SCLIP 81.5.
"""

from mmengine.config import read_base

with read_base():
    from ._base_.datasets.pascal_voc_20 import *
    from ._base_.runtime import *
    from ._base_.training_free import *

val_dataloader["dataset"].update(classes="sclip_voc_20", class_options=dict(synonym_merge="max"), pipeline=pipeline)
test_dataloader = val_dataloader
