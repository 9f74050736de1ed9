"""COCO panoptic, 133 classes, read as semantic labels: data/coco with its panoptic PNGs and JSON files.

Another location: `--cfg-options train_dataloader.dataset.root=DIR val_dataloader.dataset.root=DIR
test_dataloader.dataset.root=DIR`.
"""

from mmengine.config import read_base

with read_base():
    from .label_maps import *

category_ids = [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 27, 28, 31, 32, 33, 34, 35,
    36, 37, 38, 39, 40, 41, 42, 43, 44, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63, 64, 65,
    67, 70, 72, 73, 74, 75, 76, 77, 78, 79, 80, 81, 82, 84, 85, 86, 87, 88, 89, 90, 92, 93, 95, 100, 107, 109, 112,
    118, 119, 122, 125, 128, 130, 133, 138, 141, 144, 145, 147, 148, 149, 151, 154, 155, 156, 159, 161, 166, 168, 171,
    175, 176, 177, 178, 180, 181, 184, 185, 186, 187, 188, 189, 190, 191, 192, 193, 194, 195, 196, 197, 198, 199, 200,
]  # fmt: skip
files = dict(root="data/coco", classes="coco_panoptic_133")
ids = dict(label_ids=category_ids, ignored_ids=[0])
train_dataloader["dataset"].update(
    images="train2017",
    annotations="annotations/panoptic_train2017",
    labels=dict(panoptic_json="annotations/panoptic_train2017.json", **ids),
    **files,
)
val_dataloader["dataset"].update(
    images="val2017",
    annotations="annotations/panoptic_val2017",
    labels=dict(panoptic_json="annotations/panoptic_val2017.json", **ids),
    **files,
)
test_dataloader = val_dataloader
