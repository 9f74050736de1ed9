"""PASCAL VOC 2012 as GroupViT evaluates it: 20 classes under its names, and background, short side 448, validation only.

Files as in `pascal_voc.py`.

Another location: `--cfg-options val_dataloader.dataset.root=DIR test_dataloader.dataset.root=DIR`.
"""

from mmengine.config import read_base

with read_base():
    from .label_map_evaluation import *

val_dataloader["dataset"].update(
    root="data/VOCdevkit/VOC2012",
    images="JPEGImages",
    annotations="SegmentationClass",
    classes="groupvit_voc_21",
    keys="ImageSets/Segmentation/val.txt",
    class_options=dict(background="background"),
)
val_dataloader["dataset"]["pipeline"][1].update(short_side=448)
test_dataloader = val_dataloader
