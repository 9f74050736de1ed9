"""GLIP-T (A), without fusion, on Objects365; evaluated on COCO, of which it has seen no box.

Paper: Grounded Language-Image Pre-training (arXiv 2112.03857). Official recipe: 30 epochs of 609,000 images in batches
of 64 on 32 GPUs. Departure: a batch holds images of similar shapes (official: wide and high ones apart).
Official weights: python tools/convert_checkpoint.py glip glip_a_tiny_o365.pth glip_t_a.pth && python tools/test.py
configs/glip_t_a_o365.py glip_t_a.pth (see docs/detection.md, also for how images are resized)
Command: torchrun --nproc_per_node 8 --nnodes 4 --rdzv_backend c10d --rdzv_endpoint HOST:29500 tools/train.py
configs/glip_t_a_o365.py --launcher pytorch
Files: see `_base_/datasets/objects365.py` and `coco_80.py`; data/weights/swin_tiny_patch4_window7_224.pth, ImageNet's
weights of github.com/microsoft/Swin-Transformer; BERT's are fetched from the hub.
Hardware: 32 GPUs; time and memory not yet measured. Expected score: not yet measured. Published: 42.9 box AP on COCO.
"""

from mmengine.config import read_base

from openvocab.datasets.detection_sampler import DetectionSampler

with read_base():
    from ._base_.datasets.coco_80 import *
    from ._base_.datasets.objects365 import train_dataloader as pretraining
    from ._base_.glip_tiny import *
    from ._base_.runtime import *
    from ._base_.schedules.adamw_glip import *

model["backbone"]["pretrained"] = "data/weights/swin_tiny_patch4_window7_224.pth"
model["text_encoder"]["pretrained"] = bert
model["head"]["tower"]["fused"] = False
train_dataloader = dict(pretraining, batch_size=2, sampler=dict(type=DetectionSampler, batch_size=2))
default_hooks["checkpoint"].update(interval=10_000, best="coco_box_AP")
