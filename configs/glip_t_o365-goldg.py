"""GLIP-T (C) on Objects365 and GoldG: boxes of names and of phrases in one stream; evaluated on COCO.

Paper: Grounded Language-Image Pre-training (arXiv 2112.03857). Official recipe: 30 epochs of 609,000 images and 770,000
captions (621,000 of Visual Genome and GQA, 149,000 of Flickr30k) in batches of 64 on 32 GPUs; the rest as in
`glip_t_a_o365.py`. Departure: images of a batch are not grouped by shape. The published GLIP-T has the same network and
was also trained on captions of CC3M and SBU, whose boxes are not published: its weights are tested with this config.
Official weights: python tools/convert_checkpoint.py glip glip_tiny_model_o365_goldg_cc_sbu.pth glip_t.pth && python
tools/test.py configs/glip_t_o365-goldg.py glip_t.pth
Command: torchrun --nproc_per_node 8 --nnodes 4 --rdzv_backend c10d --rdzv_endpoint HOST:29500 tools/train.py
configs/glip_t_o365-goldg.py --launcher pytorch
Files: see `_base_/datasets/objects365_goldg.py`; the rest as in `glip_t_a_o365.py`.
Hardware: 32 GPUs; time and memory not yet measured. Expected score: not yet measured. Published: 46.7 box AP on COCO
(C), 46.6 with captions (GLIP-T).
"""

from mmengine.config import read_base

with read_base():
    from ._base_.datasets.coco_80 import *
    from ._base_.datasets.objects365_goldg import train_dataloader as pretraining
    from ._base_.glip_tiny import *
    from ._base_.runtime import *
    from ._base_.schedules.adamw_glip import *

model["backbone"]["pretrained"] = "data/weights/swin_tiny_patch4_window7_224.pth"
model["text_encoder"]["pretrained"] = bert

train_dataloader = dict(pretraining, batch_size=2)
max_iters = 646_000
param_scheduler[1]["milestones"] = [432_820, 574_940]
train_cfg.update(max_iters=max_iters)
default_hooks["checkpoint"].update(interval=10_000, best="coco_box_AP")
