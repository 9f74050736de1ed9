"""AdamW with a linear warm-up and polynomial decay, for transformers that are fine-tuned.

The pretrained parts have a tenth of the learning rate of the head; norms, biases and the logit scale are not decayed.
A config that changes `train_cfg["max_iters"]` changes `param_scheduler[1]["end"]` with it.
"""

from mmengine.optim import LinearLR, PolyLR
from torch.optim import AdamW

from openvocab.engine.optim_wrapper import SafeOptimWrapper
from openvocab.engine.train_loop import TrainLoop

max_iters = 80_000
warmup_iters = 1_500
optim_wrapper = dict(
    type=SafeOptimWrapper,
    optimizer=dict(type=AdamW, lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={
            "backbone": dict(lr_mult=0.1),
            "text_encoder": dict(lr_mult=0.1),
            "logit_scale": dict(decay_mult=0.0),
        },
    ),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type=LinearLR, start_factor=1e-3, begin=0, end=warmup_iters, by_epoch=False),
    dict(type=PolyLR, power=0.9, eta_min=0.0, begin=warmup_iters, end=max_iters, by_epoch=False),
]
train_cfg = dict(type=TrainLoop, max_iters=max_iters, val_interval=8_000)
