"""COCO 2017 with boxes and masks, 48 base and 17 novel classes (arXiv 1804.04340); the other 15 are dropped.

Files: data/coco/{train2017,val2017}/*.jpg and data/coco/annotations/instances_{train,val}2017.json, as published.
Training: images with an object of a base class, large-scale jitter. Evaluation: 65 classes; ViLD and its successors
report AP50 of base, novel and all classes over the 4836 images that show one of the 65 (`keep_empty=False`).

Another location: `--cfg-options train_dataloader.dataset.root=DIR val_dataloader.dataset.root=DIR
test_dataloader.dataset.root=DIR`.
"""

from mmengine.config import read_base

from openvocab.metrics.detection.average_precision import CocoAveragePrecision

with read_base():
    from .base_novel_detection import *

coco = dict(root="data/coco", classes="coco_80")
train_dataloader["dataset"].update(images="train2017", annotations="annotations/instances_train2017.json", **coco)
train_dataloader["dataset"]["class_options"].update(unseen="coco_48_17")
val_dataloader["dataset"].update(
    images="val2017",
    annotations="annotations/instances_val2017.json",
    class_options=dict(unseen="coco_48_17"),
    keep_empty=False,
    **coco,
)
test_dataloader = val_dataloader

val_evaluator = dict(type=CocoAveragePrecision, masks=True)
test_evaluator = val_evaluator
