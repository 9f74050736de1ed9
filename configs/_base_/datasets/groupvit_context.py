"""PASCAL Context as GroupViT evaluates it: 59 classes under its names, and background, short side 448, validation only.

Files as in `pascal_context_60.py`.

Another location: `--cfg-options val_dataloader.dataset.root=DIR test_dataloader.dataset.root=DIR`.
"""

from mmengine.config import read_base

with read_base():
    from .label_map_evaluation import *

val_dataloader["dataset"].update(
    root="data/VOCdevkit/VOC2010",
    images="JPEGImages",
    annotations="SegmentationClassContext",
    classes="groupvit_context_60",
    keys="ImageSets/SegmentationContext/val.txt",
    class_options=dict(background="background"),
)
val_dataloader["dataset"]["pipeline"][1].update(short_side=448)
test_dataloader = val_dataloader
