"""ViLD-ensemble on COCO: boxes and masks of 48 classes, CLIP's embeddings of proposals, detections of 65.

Paper: Open-vocabulary Object Detection via Vision and Language Knowledge Distillation (arXiv 2104.13921); recipe, and
its differences from Mask R-CNN, as in `vild_text_coco_r50.py`, whose proposals CLIP embeds.
Command: after vild_text_coco_r50.py, torchrun --nproc_per_node 8 tools/cache_region_embeddings.py
configs/vild_coco_r50.py, then torchrun --nproc_per_node 8 tools/train.py configs/vild_coco_r50.py --launcher pytorch
One branch instead of two, as in the paper's table: --cfg-options model.head.variant=vild --work-dir DIR
Hardware: 8 GPUs; time and memory not yet measured. Expected score: not yet measured. Paper, ViLD with one branch (box
AP50 of novel / base / all): 27.6 / 59.5 / 51.3.
"""

from mmengine.config import read_base

from openvocab.teacher import LoadRegions
from openvocab.teacher.detector_proposals import DetectorProposals

with read_base():
    from .vild_text_coco_r50 import *

teacher = dict(
    **clip,
    crop="center",
    scales=(1.0, 1.5),
    proposals=dict(
        type=DetectorProposals,
        config="configs/vild_text_coco_r50.py",
        checkpoint="work_dirs/vild_text_coco_r50/last.pth",
        per_image=300,
    ),
    folder="work_dirs/vild_coco_regions",
)
model["head"].update(variant="ensemble", distill_weight=0.5)
train_dataloader["dataset"]["pipeline"].insert(2, dict(type=LoadRegions, teacher=teacher))
