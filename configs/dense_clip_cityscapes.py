"""Dense CLIP on Cityscapes, with the protocol of the training-free papers; nothing is trained.

Paper: SC-CLIP (arXiv 2411.15869), protocol of SCLIP (arXiv 2312.01597): `_base_/training_free.py`.
Short side 560.
Command: python tools/test.py configs/dense_clip_cityscapes.py
Other readouts: --cfg-options model.backbone.readout=naclip (all of them, with their settings: docs/training_free.md)
Hardware: one GPU. Expected score: not yet measured. Published mIoU: SC-CLIP 41.0, SFP 41.1, NACLIP with PAMR 38.3, SCLIP 32.3.
"""

from mmengine.config import read_base

with read_base():
    from ._base_.datasets.cityscapes import *
    from ._base_.runtime import *
    from ._base_.training_free import *

pipeline[1].update(short_side=560)
val_dataloader["dataset"].update(
    classes="sclip_cityscapes_19", class_options=dict(synonym_merge="max"), pipeline=pipeline
)
test_dataloader = val_dataloader
