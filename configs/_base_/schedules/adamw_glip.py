"""AdamW with two steps to a tenth, the recipe of official GLIP for batches of 64 (arXiv 2112.03857).

Rate 1e-4, 1e-5 for the text encoder. Every parameter with "bias" in its name, also the tables of Swin and the token
bias of the head, has twice the rate of its part and no decay; norms are decayed. The rate rises from a thousandth over
2000 iterations, and falls at 0.67 and 0.89 of the run. `average` keeps the average of the weights over about 1000
iterations, which is validated and saved here; official checkpoints hold both, and official tests read the weights
themselves. Official GLIP computes in float16, this library in bfloat16 where that is faster. A config that changes
`train_cfg["max_iters"]` changes `param_scheduler[1]["milestones"]` with it.
"""

from mmengine.hooks import EMAHook
from mmengine.optim import LinearLR, MultiStepLR
from torch.optim import AdamW

from openvocab.engine.optim_wrapper import SafeOptimWrapper
from openvocab.engine.train_loop import TrainLoop

max_iters = 285_000
optim_wrapper = dict(
    type=SafeOptimWrapper,
    optimizer=dict(type=AdamW, lr=1e-4, betas=(0.9, 0.999), weight_decay=1e-4),
    paramwise_cfg=dict(
        custom_keys={"text_encoder": dict(lr_mult=0.1)},
        factors={"bias": dict(lr_mult=2.0, decay_mult=0.0)},
    ),
    clip_grad=dict(max_norm=1.0),
    amp="auto",
)
param_scheduler = [
    dict(type=LinearLR, start_factor=1e-3, begin=0, end=2_000, by_epoch=False),
    dict(type=MultiStepLR, milestones=[190_950, 253_650], gamma=0.1, by_epoch=False),
]
train_cfg = dict(type=TrainLoop, max_iters=max_iters, val_interval=20_000)
average = dict(type=EMAHook, momentum=1e-3)
custom_hooks = [average]
