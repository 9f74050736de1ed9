"""COCO 2017 with boxes of all 80 classes, which one prompt names: GLIP's zero-shot evaluation, and its fine-tuning.

Files: data/coco/{train2017,val2017}/*.jpg and data/coco/annotations/instances_{train,val}2017.json, as published.
Training: all names in fixed order, images of similar shapes in a batch. Evaluation: COCO's AP.

Another location: `--cfg-options train_dataloader.dataset.root=DIR val_dataloader.dataset.root=DIR
test_dataloader.dataset.root=DIR`.
"""

from mmengine.config import read_base

from openvocab.datasets.detection_sampler import DetectionSampler

with read_base():
    from .odinw import *

train_dataloader["sampler"] = dict(type=DetectionSampler, batch_size=train_dataloader["batch_size"])
train_dataloader["dataset"].update(
    root="data/coco", images="train2017", annotations="annotations/instances_train2017.json"
)
val_dataloader["dataset"].update(root="data/coco", images="val2017", annotations="annotations/instances_val2017.json")
test_dataloader = val_dataloader
