"""ViLD-ensemble on LVIS as published: boxes and masks of 866 classes, CLIP's embeddings of proposals, detections of 1203.

Paper: Open-vocabulary Object Detection via Vision and Language Knowledge Distillation (arXiv 2104.13921); recipe and
departures as in `vild_text_lvis_r50.py`, whose proposals CLIP embeds.
Command: after vild_text_lvis_r50.py, torchrun --nproc_per_node 8 tools/cache_region_embeddings.py configs/vild_lvis_r50.py, then
torchrun --nproc_per_node 8 --nnodes 4 --rdzv_backend c10d --rdzv_endpoint HOST:29500
tools/train.py configs/vild_lvis_r50.py --launcher pytorch
One branch instead of two: --cfg-options model.head.variant=vild (or image) --work-dir DIR.
Official weights: see openvocab/converters/vild.py for the file, then
python tools/convert_checkpoint.py vild vild.safetensors vild.pth --clip ViT-B-32.pt && python tools/test.py
configs/vild_lvis_r50.py vild.pth (those of one branch: with --cfg-options model.head.variant=vild)
Files: see `_base_/datasets/lvis_detection.py`; the work dir must be shared by all machines.
Hardware: 32 GPUs; time and memory not yet measured. Expected score: not yet measured. Official weights, as published:
mask AP 25.9, AP_r 18.0, AP_c 24.7, AP_f 30.6; ViLD: 22.5, 16.6, 19.8, 28.2.
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
model["head"].update(variant="ensemble", distill_weight=0.5)
train_dataloader["dataset"]["pipeline"].insert(2, dict(type=LoadRegions, teacher=teacher))
