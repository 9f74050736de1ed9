"""PASCAL VOC 2012, 20 classes and background: data/VOCdevkit/VOC2012, palette PNGs, 255 on the boundaries.

For the additional labels of SBD set `annotations="SegmentationClassAug"` and their list of keys.

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
    classes="pascal_voc_21",
    class_options=dict(background="background"),
)
train_dataloader["dataset"].update(keys="ImageSets/Segmentation/train.txt", **files)
val_dataloader["dataset"].update(keys="ImageSets/Segmentation/val.txt", **files)
test_dataloader = val_dataloader
