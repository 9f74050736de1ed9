"""LVIS v1 (arXiv 1908.03195): 866 frequent and common classes are base, 337 rare ones novel, as in ViLD.

Files: data/coco/{train2017,val2017}/*.jpg and data/lvis/lvis_v1_{train,val}.json, as published (the validation part
uses images of both folders). Training: base classes, large-scale jitter, all images equally often, as in official
ViLD; DetPro's version repeats rare classes, `train_dataloader.sampler.repeat_threshold=0.001`. Evaluation: 1203 classes
by LVIS's federated rules; also fixed AP with `--cfg-options test_evaluator.fixed=True
model.head.detector.detections.max_detections=1000`.

Another location: `--cfg-options train_dataloader.dataset.root=DIR val_dataloader.dataset.root=DIR
test_dataloader.dataset.root=DIR`.
"""

from mmengine.config import read_base

from openvocab.metrics.detection.average_precision import LvisAveragePrecision

with read_base():
    from .base_novel_detection import *

lvis = dict(root="data", images="coco", classes="lvis_1203")
train_dataloader["dataset"].update(annotations="lvis/lvis_v1_train.json", **lvis)
train_dataloader["dataset"]["class_options"].update(unseen="lvis_866_337")
val_dataloader["dataset"].update(
    annotations="lvis/lvis_v1_val.json",
    labels=dict(frequencies="lvis_frequencies"),
    class_options=dict(unseen="lvis_866_337"),
    **lvis,
)
test_dataloader = val_dataloader

val_evaluator = dict(type=LvisAveragePrecision, masks=True, fixed=False)
test_evaluator = val_evaluator
