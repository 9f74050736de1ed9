"""ViLD-ensemble on COCO with CLIP's own ResNet-50 as student: one CLIP provides start weights, texts and teacher.

Paper: Open-vocabulary Object Detection via Vision and Language Knowledge Distillation (arXiv 2104.13921), our
variant of it: the student starts from the image tower of its teacher and has a tenth of the head's learning rate.
Command: after vild_text_coco_r50.py, torchrun --nproc_per_node 8 tools/cache_region_embeddings.py configs/vild_coco_clip-rn50.py, then
torchrun --nproc_per_node 8 tools/train.py configs/vild_coco_clip-rn50.py --launcher pytorch
CLIP embeds the proposals of `vild_text_coco_r50.py`.
Hardware: 8 GPUs; time and memory not yet measured. Expected score: not yet measured; not in the paper.
"""

from mmengine.config import read_base

from openvocab.backbones.clip import CLIPBackbone
from openvocab.teacher import LoadRegions
from openvocab.teacher.detector_proposals import DetectorProposals

with read_base():
    from .vild_text_coco_r50 import *

clip = dict(model="RN50-quickgelu", pretrained="openai")
model["backbone"] = dict(type=CLIPBackbone, trainable="all", norm_eval=True, **clip)
model["text_encoder"].update(clip)
model["head"].update(variant="ensemble", distill_weight=0.5)
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
    folder="work_dirs/vild_coco_clip-rn50_regions",
)
train_dataloader["dataset"]["pipeline"].insert(2, dict(type=LoadRegions, teacher=teacher))
optim_wrapper["paramwise_cfg"]["custom_keys"] = {"backbone": dict(lr_mult=0.1)}
