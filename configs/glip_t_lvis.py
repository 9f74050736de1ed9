"""GLIP-T on LVIS, 1203 classes by fixed AP, as published: 31 prompts of up to 40 names.

Paper: Grounded Language-Image Pre-training (arXiv 2112.03857). The 300 best detections per prompt are kept, those of
different prompts do not suppress each other, and the 10,000 best per class count (fixed AP, arXiv 2102.01066).
Command: python tools/convert_checkpoint.py glip glip_tiny_model_o365_goldg_cc_sbu.pth glip_t.pth && python tools/test.py
configs/glip_t_lvis.py glip_t.pth
All of the validation part: --cfg-options test_dataloader.dataset.annotations=lvis/lvis_v1_val.json; GLIP-T (A):
model.head.tower.fused=False. GLIP-L: configs/glip_l_lvis.py.
Files: data/coco/{train2017,val2017}/*.jpg and data/lvis/lvis_v1_minival_inserted_image_name.json, the 5000 images of
MDETR's minival, as GLIP publishes it.
Hardware: one GPU. Expected score: not yet measured. Published AP on minival: 18.5 (A), 17.8 (B), 24.9 (C), 26.0
(GLIP-T); AP_r of the last checkpoints: 14.3 (C), 17.6 (GLIP-T).
"""

from mmengine.config import read_base

from openvocab.metrics.detection.average_precision import LvisAveragePrecision

with read_base():
    from ._base_.datasets.objects365 import test_dataloader
    from ._base_.glip_tiny import *
    from ._base_.runtime import *

model["head"].update(names_at_once=40)
model["head"]["detections"]["max_detections"] = 300

test_dataloader["dataset"].update(
    root="data",
    images="coco",
    annotations="lvis/lvis_v1_minival_inserted_image_name.json",
    classes="lvis_1203",
    labels=dict(frequencies="lvis_frequencies"),
)
test_evaluator = dict(type=LvisAveragePrecision, fixed=True)
val_dataloader, val_evaluator = test_dataloader, test_evaluator
