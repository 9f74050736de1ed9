"""PASCAL VOC 2012, 20 classes, background pixels ignored: data/VOCdevkit/VOC2012.

Another location: `--cfg-options train_dataloader.dataset.root=DIR val_dataloader.dataset.root=DIR
test_dataloader.dataset.root=DIR`.
"""

from mmengine.config import read_base

with read_base():
    from .label_maps import *

files = dict(
    root="data/VOCdevkit/VOC2012",
    images="JPEGImages",
    annotations="SegmentationClass",
    classes="pascal_voc_20",
    labels=dict(reduce_zero_label=True),
)
train_dataloader["dataset"].update(keys="ImageSets/Segmentation/train.txt", **files)
val_dataloader["dataset"].update(keys="ImageSets/Segmentation/val.txt", **files)
test_dataloader = val_dataloader
