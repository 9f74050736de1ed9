"""SGD with polynomial decay, the recipe of LSeg: momentum 0.9, weight decay 1e-4, power 0.9, ten times the rate for the decoder.

The official rate is 0.004 / 16 for a backbone at batch 1 per GPU, stepped once per epoch; here it falls every iteration,
since a run is counted in iterations only. Within an epoch, the rate is lower by up to 0.9 times the first rate divided by
the number of epochs: 0.4 % of it for 240. A config sets `train_cfg["max_iters"]`, `param_scheduler[0]["end"]` to the same value,
and the rate.
"""

from mmengine.optim import PolyLR
from torch.optim import SGD

from openvocab.engine.optim_wrapper import SafeOptimWrapper
from openvocab.engine.train_loop import TrainLoop

max_iters = 80_000
optim_wrapper = dict(
    type=SafeOptimWrapper,
    optimizer=dict(type=SGD, lr=2.5e-4, momentum=0.9, weight_decay=1e-4),
    paramwise_cfg=dict(custom_keys={"head": dict(lr_mult=10.0)}),
)
param_scheduler = [dict(type=PolyLR, power=0.9, eta_min=0.0, begin=0, end=max_iters, by_epoch=False)]
train_cfg = dict(type=TrainLoop, max_iters=max_iters, val_interval=8_000)
