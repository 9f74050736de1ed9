"""COCO-Object as GroupViT evaluates it: the 80 things of COCO; stuff and unlabeled pixels are background. Short side 448.

Files as in `coco_stuff.py`; its pixel maps need no conversion.

Another location: `--cfg-options val_dataloader.dataset.root=DIR test_dataloader.dataset.root=DIR`.
"""

from mmengine.config import read_base

with read_base():
    from .label_map_evaluation import *

thing_ids = [
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 26, 27, 30, 31, 32, 33, 34,
    35, 36, 37, 38, 39, 40, 41, 42, 43, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63, 64,
    66, 69, 71, 72, 73, 74, 75, 76, 77, 78, 79, 80, 81, 83, 84, 85, 86, 87, 88, 89,
]  # fmt: skip
label_ids = {index: 0 for index in range(91, 182)}
label_ids[255] = 0
label_ids.update({index: position for position, index in enumerate(thing_ids, start=1)})

val_dataloader["dataset"].update(
    root="data/coco",
    images="val2017",
    annotations="stuffthingmaps/val2017",
    classes="coco_object_81",
    labels=dict(label_ids=label_ids, ignored_ids=[]),
    class_options=dict(background="background"),
)
val_dataloader["dataset"]["pipeline"][1].update(short_side=448)
test_dataloader = val_dataloader
