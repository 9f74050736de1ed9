"""GLIP-L: Swin-L at window 12, a tower of eight blocks; evaluated on COCO.

Paper: Grounded Language-Image Pre-training (arXiv 2112.03857). Official recipe: a million iterations of 64 images on 64
GPUs in float32, a decay of 0.01 that falls to a tenth twice, at 0.667 of each step of the rate, no average of the
weights; patch embedding and first stage of Swin stay frozen. The official training data are four detection sets (FourODs),
GoldG, and the captions of CC3M, CC12M and SBU with boxes of a teacher, which are not published; the released config only
lists a placeholder: the data here are those of GLIP-T (C). A batch of a GPU is one image.
Official weights: python tools/convert_checkpoint.py glip glip_large_model.pth glip_l.pth && python tools/test.py
configs/glip_l_o365-goldg.py glip_l.pth
Command: torchrun --nproc_per_node 8 --nnodes 8 --rdzv_backend c10d --rdzv_endpoint HOST:29500 tools/train.py
configs/glip_l_o365-goldg.py --launcher pytorch
Files: as in `glip_t_o365-goldg.py`; data/weights/swin_large_patch4_window12_384_22k.pth instead of Swin-T's.
Hardware: 64 GPUs; time and memory not yet measured. Expected score: not yet measured. Published, with all official data:
51.4 box AP on COCO.
"""

from mmengine.config import read_base
from mmengine.optim import MultiStepParamScheduler

with read_base():
    from ._base_.datasets.coco_80 import *
    from ._base_.datasets.objects365_goldg import train_dataloader as pretraining
    from ._base_.glip_tiny import *
    from ._base_.runtime import *
    from ._base_.schedules.adamw_glip import *

model["backbone"].update(
    dim=192,
    depths=(2, 2, 18, 2),
    heads=(6, 12, 24, 48),
    window=12,
    drop_path=0.4,
    pretrained="data/weights/swin_large_patch4_window12_384_22k.pth",
    trainable=3,
)
model["text_encoder"]["pretrained"] = bert
model["head"]["tower"]["num_blocks"] = 8

train_dataloader = dict(pretraining, batch_size=1)
max_iters = 1_000_000
optim_wrapper["optimizer"]["weight_decay"] = 0.01
optim_wrapper["amp"] = None
param_scheduler[1]["milestones"] = [670_000, 890_000]
param_scheduler.append(
    dict(
        type=MultiStepParamScheduler,
        param_name="weight_decay",
        milestones=[446_890, 593_630],
        gamma=0.1,
        by_epoch=False,
    )
)
train_cfg.update(max_iters=max_iters)
custom_hooks = []
default_hooks["checkpoint"].update(interval=10_000, best="coco_box_AP")
