"""GroupViT on Shapes as a classifier: zero-shot classification of single objects by the mean of its segments.

Paper: GroupViT: Semantic Segmentation Emerges from Text Supervision (arXiv 2202.11094). Network, data and recipe of
`groupvit_shapes.py`, whose checkpoints it loads; if this config is trained, the best checkpoint is the best classifier.
Command: python tools/test.py configs/groupvit_zeroshot_shapes.py work_dirs/groupvit_shapes/best.pth
Hardware: 2 CPU cores. Expected score: not yet measured; top1 over 48 classes of single objects.
"""

from mmengine.config import read_base

from openvocab.heads.groupvit_classifier import GroupViTClassifierHead

with read_base():
    from .groupvit_shapes import *

    # isort: split
    from ._base_.datasets.shapes_objects import *

model["head"].update(type=GroupViTClassifierHead)
default_hooks["checkpoint"].update(best="top1")
