"""GLIP-T fine-tuned on COCO's 80 classes.

Paper: Grounded Language-Image Pre-training (arXiv 2112.03857). Official recipe: from pretrained weights, 24 epochs of
117,266 images in batches of 32 on 16 GPUs, rate 1e-5 for all parts, a prompt of all names in fixed order; the rest as in
pretraining. GLIP-T (A): --cfg-options model.head.tower.fused=False. Departure: a batch holds images of similar shapes (official:
wide and high ones apart).
Command: torchrun --nproc_per_node 8 --nnodes 2 --rdzv_backend c10d --rdzv_endpoint HOST:29500 tools/train.py
configs/glip_t_coco.py --launcher pytorch --cfg-options load_from=glip_t.pth
Files: see `_base_/datasets/coco_80.py`; converted official weights, see docs/detection.md.
Hardware: 16 GPUs; time and memory not yet measured. Expected score: not yet measured. Published box AP: 52.9 (A), 53.8 (B),
55.1 (C), 55.2 (GLIP-T).
"""

from mmengine.config import read_base

with read_base():
    from ._base_.datasets.coco_80 import *
    from ._base_.glip_tiny import *
    from ._base_.runtime import *
    from ._base_.schedules.adamw_glip import *

train_dataloader["batch_size"] = 2
train_dataloader["sampler"]["batch_size"] = 2
max_iters = 87_949
optim_wrapper["optimizer"]["lr"] = 1e-5
optim_wrapper["paramwise_cfg"]["custom_keys"] = {}
param_scheduler[1]["milestones"] = [58_926, 78_275]
train_cfg.update(max_iters=max_iters, val_interval=8_000)
default_hooks["checkpoint"].update(interval=4_000, best="coco_box_AP")
