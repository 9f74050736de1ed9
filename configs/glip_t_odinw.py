"""GLIP-T on a dataset of ODinW: zero-shot evaluation, and tuning of the whole model.

Paper: Grounded Language-Image Pre-training (arXiv 2112.03857). Official recipe of tuning: from pretrained weights,
batches of 4, rate 1e-4 (1e-5 for BERT), decay 0.05, no warm-up, no average; patch embedding and first stage of Swin stay
frozen. An epoch is the whole training part, or the images of 1, 3, 5 or 10 shots 8, 4, 2 and 1 times; after each, the
model is validated, and the best one is kept. The rate falls to a tenth after 3 validations without a better score (whole
part: 2), down to 1e-6; the run ends after 8 (whole part: 4) of them, or 200 epochs.
Zero-shot: python tools/convert_checkpoint.py glip glip_tiny_model_o365_goldg_cc_sbu.pth glip_t.pth && python
tools/test.py configs/glip_t_odinw.py glip_t.pth
Command: torchrun --nproc_per_node 4 tools/train.py configs/glip_t_odinw.py --launcher pytorch --cfg-options
load_from=glip_t.pth
All 13 or 35 datasets in a loop, few shots, and files: see `_base_/datasets/odinw.py`; set `train_cfg.val_interval` to the
iterations of an epoch (116 here, for 465 images) and `train_cfg.max_iters` to 200 times that.
Hardware: 4 GPUs. Expected score: not yet measured. Published mean AP over 13 datasets, zero-shot: 28.7 (A), 33.2 (B), 44.4 (C),
42.7 (GLIP-T).
"""

from mmengine.config import read_base
from mmengine.optim import ReduceOnPlateauLR

with read_base():
    from ._base_.datasets.odinw import *
    from ._base_.glip_tiny import *
    from ._base_.runtime import *
    from ._base_.schedules.adamw_glip import *

model["backbone"]["trainable"] = 3

train_dataloader["batch_size"] = 1
optim_wrapper["optimizer"]["weight_decay"] = 0.05
param_scheduler = [
    dict(type=ReduceOnPlateauLR, monitor="coco_box_AP", rule="greater", factor=0.1, patience=3, min_value=1e-6)
]
train_cfg.update(max_iters=200 * 116, val_interval=116)
custom_hooks = []
early_stopping = dict(patience=8)
default_hooks["checkpoint"].update(interval=116, best="coco_box_AP")
