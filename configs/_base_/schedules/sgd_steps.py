"""SGD with a linear warm-up and two steps to a tenth, the recipe of Mask R-CNN for batches of 16 (arXiv 1703.06870).

Norms and biases are not decayed. A config that changes `train_cfg["max_iters"]` changes
`param_scheduler[1]["milestones"]` with it.
"""

from mmengine.optim import LinearLR, MultiStepLR
from torch.optim import SGD

from openvocab.engine.optim_wrapper import SafeOptimWrapper
from openvocab.engine.train_loop import TrainLoop

max_iters = 90_000
warmup_iters = 1_000
optim_wrapper = dict(
    type=SafeOptimWrapper,
    optimizer=dict(type=SGD, lr=0.02, momentum=0.9, weight_decay=1e-4),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)
param_scheduler = [
    dict(type=LinearLR, start_factor=1e-2, begin=0, end=warmup_iters, by_epoch=False),
    dict(type=MultiStepLR, milestones=[60_000, 80_000], gamma=0.1, by_epoch=False),
]
train_cfg = dict(type=TrainLoop, max_iters=max_iters, val_interval=10_000)
