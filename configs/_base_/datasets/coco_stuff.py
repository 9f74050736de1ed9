"""COCO-Stuff, 171 classes (arXiv 1612.03716).

Files: data/coco/{train,val}2017 and data/coco/stuffthingmaps/{train,val}2017.

The ids of the published pixel maps are COCO category ids minus one, with gaps; 255 where unlabeled.

Another location: `--cfg-options train_dataloader.dataset.root=DIR val_dataloader.dataset.root=DIR
test_dataloader.dataset.root=DIR`.
"""

from mmengine.config import read_base

with read_base():
    from .label_maps import *

label_ids = [
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 26, 27, 30, 31, 32, 33, 34,
    35, 36, 37, 38, 39, 40, 41, 42, 43, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63, 64,
    66, 69, 71, 72, 73, 74, 75, 76, 77, 78, 79, 80, 81, 83, 84, 85, 86, 87, 88, 89, 91, 92, 93, 94, 95, 96, 97, 98, 99,
    100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 112, 113, 114, 115, 116, 117, 118, 119, 120, 121, 122,
    123, 124, 125, 126, 127, 128, 129, 130, 131, 132, 133, 134, 135, 136, 137, 138, 139, 140, 141, 142, 143, 144, 145,
    146, 147, 148, 149, 150, 151, 152, 153, 154, 155, 156, 157, 158, 159, 160, 161, 162, 163, 164, 165, 166, 167, 168,
    169, 170, 171, 172, 173, 174, 175, 176, 177, 178, 179, 180, 181,
]  # fmt: skip
files = dict(root="data/coco", classes="coco_stuff_171", labels=dict(label_ids=label_ids))
train_dataloader["dataset"].update(images="train2017", annotations="stuffthingmaps/train2017", **files)
val_dataloader["dataset"].update(images="val2017", annotations="stuffthingmaps/val2017", **files)
test_dataloader = val_dataloader
