"""Dense CLIP on ADE20K-150, with the protocol of the training-free papers; nothing is trained.

Paper: SC-CLIP (arXiv 2411.15869), protocol of SCLIP (arXiv 2312.01597): `_base_/training_free.py`.
Command: python tools/test.py configs/dense_clip_ade.py
Other readouts: --cfg-options model.backbone.readout=naclip (all of them, with their settings: docs/training_free.md)
Hardware: one GPU. Expected score: not yet measured. Published mIoU: SC-CLIP 20.1, SFP 20.8, NACLIP with PAMR 19.1, SCLIP 16.5.
"""

from mmengine.config import read_base

with read_base():
    from ._base_.datasets.ade20k import *
    from ._base_.runtime import *
    from ._base_.training_free import *

val_dataloader["dataset"].update(classes="sclip_ade20k_150", class_options=dict(synonym_merge="max"), pipeline=pipeline)
test_dataloader = val_dataloader
