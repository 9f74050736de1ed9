"""SGD with a linear warm-up and cosine decay to zero, the fine-tuning recipe of the ViT paper (arXiv 2010.11929, B.1.1).

Momentum 0.9, no weight decay, gradients clipped to norm 1, the same rate for tower and head. The rates tried there for
CIFAR are 0.001, 0.003, 0.01 and 0.03. A config that changes `train_cfg["max_iters"]` changes `param_scheduler[1]["end"]`
with it.
"""

from mmengine.optim import CosineAnnealingLR, LinearLR
from torch.optim import SGD

from openvocab.engine.optim_wrapper import SafeOptimWrapper
from openvocab.engine.train_loop import TrainLoop

max_iters = 10_000
warmup_iters = 500
optim_wrapper = dict(
    type=SafeOptimWrapper,
    optimizer=dict(type=SGD, lr=0.01, momentum=0.9, weight_decay=0.0),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type=LinearLR, start_factor=1e-3, begin=0, end=warmup_iters, by_epoch=False),
    dict(type=CosineAnnealingLR, eta_min=0.0, begin=warmup_iters, end=max_iters, by_epoch=False),
]
train_cfg = dict(type=TrainLoop, max_iters=max_iters, val_interval=1_000)
