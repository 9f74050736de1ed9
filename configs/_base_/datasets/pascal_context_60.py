"""PASCAL Context, 59 classes and background: data/VOCdevkit/VOC2010 with mmsegmentation's label maps.

Another location: `--cfg-options train_dataloader.dataset.root=DIR val_dataloader.dataset.root=DIR
test_dataloader.dataset.root=DIR`.
"""

from mmengine.config import read_base

with read_base():
    from .label_maps import *

files = dict(
    root="data/VOCdevkit/VOC2010",
    images="JPEGImages",
    annotations="SegmentationClassContext",
    classes="pascal_context_60",
    class_options=dict(background="background"),
)
train_dataloader["dataset"].update(keys="ImageSets/SegmentationContext/train.txt", **files)
val_dataloader["dataset"].update(keys="ImageSets/SegmentationContext/val.txt", **files)
test_dataloader = val_dataloader
