"""Dense CLIP on PASCAL Context without background, with the protocol of the training-free papers; nothing is trained.

Paper: SC-CLIP (arXiv 2411.15869), protocol of SCLIP (arXiv 2312.01597): `_base_/training_free.py`.
Command: python tools/test.py configs/dense_clip_context59.py
Other readouts: --cfg-options model.backbone.readout=naclip (all of them, with their settings: docs/training_free.md)
Hardware: one GPU. Expected score: not yet measured. Published mIoU: SC-CLIP 40.1, SFP 39.9, NACLIP with PAMR 38.4, SCLIP 34.5.
"""

from mmengine.config import read_base

with read_base():
    from ._base_.datasets.pascal_context import *
    from ._base_.runtime import *
    from ._base_.training_free import *

val_dataloader["dataset"].update(classes="sclip_context_59", class_options=dict(synonym_merge="max"), pipeline=pipeline)
test_dataloader = val_dataloader
