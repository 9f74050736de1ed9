"""ViLD-ensemble on LVIS with ResNet-152, as published.

Paper: Open-vocabulary Object Detection via Vision and Language Knowledge Distillation (arXiv 2104.13921); everything
except the depth and the weight of the distillation as in `vild_lvis_r50.py`, its region cache too.
Command: after the cache of vild_lvis_r50.py, torchrun --nproc_per_node 8 --nnodes 4 --rdzv_backend c10d --rdzv_endpoint HOST:29500
tools/train.py configs/vild_lvis_r152.py --launcher pytorch
One branch: --cfg-options model.head.variant=vild model.head.distill_weight=1 --work-dir DIR
Official weights and files: as in `vild_lvis_r50.py`.
Hardware: 32 GPUs; time and memory not yet measured. Expected score: not yet measured. Official weights, as published:
mask AP 26.2, AP_r 19.2, AP_c 24.8, AP_f 30.8; ViLD: 24.0, 19.6, 21.6, 28.5.
"""

from mmengine.config import read_base

from openvocab.teacher import LoadRegions
from openvocab.teacher.detector_proposals import DetectorProposals

with read_base():
    from .vild_text_lvis_r50 import *

teacher = dict(
    **clip,
    crop="center",
    scales=(1.0, 1.5),
    proposals=dict(
        type=DetectorProposals,
        config="configs/vild_text_lvis_r50.py",
        checkpoint="work_dirs/vild_text_lvis_r50/last.pth",
        per_image=300,
    ),
    folder="work_dirs/vild_lvis_regions",
)
model["backbone"]["model"] = "resnet152"
model["head"].update(variant="ensemble", distill_weight=2.0)
train_dataloader["dataset"]["pipeline"].insert(2, dict(type=LoadRegions, teacher=teacher))
