"""Dense CLIP on PASCAL Context with background, with the protocol of the training-free papers; nothing is trained.

Paper: SC-CLIP (arXiv 2411.15869), protocol of SCLIP (arXiv 2312.01597): `_base_/training_free.py`.
Command: python tools/test.py configs/dense_clip_context60.py
Other readouts: --cfg-options model.backbone.readout=naclip (all of them, with their settings: docs/training_free.md)
Hardware: one GPU. Expected score: not yet measured. Published mIoU: SC-CLIP 36.8, SFP 37.2, NACLIP with PAMR 35.0, SCLIP 31.7.
"""

from mmengine.config import read_base

with read_base():
    from ._base_.datasets.pascal_context_60 import *
    from ._base_.runtime import *
    from ._base_.training_free import *

val_dataloader["dataset"].update(
    classes="sclip_context_60", class_options=dict(background="background", synonym_merge="max"), pipeline=pipeline
)
test_dataloader = val_dataloader
model["head"].update(background_threshold=0.15)
