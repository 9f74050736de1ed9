"""Shared by all pretraining on the captions of Shapes: pairs, the zero-shot test on single objects, 800 steps of Muon.

A rate of 1e-2 is as good for some seeds and half as good for others; at 5e-3, the seeds agree (docs/results.md).
"""

from mmengine.config import read_base

from openvocab.datasets.captions import CaptionDataset
from openvocab.datasets.sampler import ResumableSampler
from openvocab.datasets.transforms import LoadImage, PackSample
from openvocab.engine.hooks.clamp_logit_scale import ClampLogitScale
from openvocab.engine.muon import Muon

with read_base():
    from .datasets.shapes_objects import *
    from .runtime import *
    from .schedules.adamw_cosine import *

# The first caption names every object; the others add sizes, textures and places. No flips: the captions say left and
# right. No color changes: they name colors.
train_dataloader = dict(
    batch_size=128,
    num_workers=0,
    drop_last=True,
    sampler=dict(type=ResumableSampler, shuffle=True),
    dataset=dict(
        type=CaptionDataset,
        root="data/shapes",
        annotations="captions_train.jsonl",
        caption="first",
        loading=dict(cache_images=True),
        pipeline=[dict(type=LoadImage), dict(type=PackSample)],
    ),
)

max_iters, warmup_iters = 800, 80
optim_wrapper["optimizer"] = dict(type=Muon, lr=5e-3, weight_decay=0.1)
optim_wrapper["paramwise_cfg"]["custom_keys"]["token_embedding"] = dict(decay_mult=0.0)
optim_wrapper["amp"] = "auto"
param_scheduler[0]["end"] = param_scheduler[1]["begin"] = warmup_iters
param_scheduler[1]["end"] = max_iters
train_cfg.update(max_iters=max_iters, val_interval=max_iters)
default_hooks["checkpoint"].update(best="top1", interval=max_iters)
custom_hooks = [dict(type=ClampLogitScale, maximum=100.0)]
