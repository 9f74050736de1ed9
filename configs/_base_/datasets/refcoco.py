"""RefCOCO, RefCOCO+ and RefCOCOg: one expression per sample, which refers to one object (arXiv 1608.00272).

Files: data/coco/train2014/*.jpg and MDETR's annotations (arXiv 2104.12763; mdetr_annotations.tar.gz) in
data/mdetr_annotations; the original `refs(unc).p` is a pickle and is not read. The whole expression is one phrase, both
in training and at evaluation, since only the labels say which of its words is the object.

Other parts: `--cfg-options test_dataloader.dataset.annotations=mdetr_annotations/finetune_refcoco_testA.json`, with
refcoco+ or refcocog for refcoco. Another location: `--cfg-options train_dataloader.dataset.root=DIR
val_dataloader.dataset.root=DIR test_dataloader.dataset.root=DIR`.
"""

from mmengine.config import read_base

from openvocab.metrics.detection.phrases import ReferringAccuracy

with read_base():
    from .grounding import *

refcoco = dict(root="data", images="coco/train2014", whole_captions=True)
train_dataloader["dataset"].update(annotations="mdetr_annotations/finetune_refcoco_train.json", **refcoco)
val_dataloader["dataset"].update(annotations="mdetr_annotations/finetune_refcoco_val.json", **refcoco)
test_dataloader = val_dataloader

val_evaluator = dict(type=ReferringAccuracy)
test_evaluator = val_evaluator
