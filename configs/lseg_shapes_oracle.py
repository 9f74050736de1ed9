"""The oracle of LSeg on Shapes: the same network, trained on labels of all 48 classes: an upper bound for unseen classes.

Command: python tools/train.py configs/lseg_shapes_oracle.py
    python tools/test.py configs/lseg_shapes_oracle.py work_dirs/lseg_shapes_oracle/best.pth
Hardware: 2 CPU cores. Expected score: see docs/results.md, measured by the command above.
"""

from mmengine.config import read_base

with read_base():
    from .lseg_shapes import *

train_dataloader["dataset"].update(annotations="annotations/train_oracle")
train_dataloader["dataset"]["class_options"].update(train_classes="all")
