"""Objects365 and GoldG in one stream, the training data of GLIP-T (C): each image and each caption equally often.

Files: see `objects365.py` and `goldg.py`. Weights instead: `train_dataloader["sampler"] = dict(type=MixedSampler,
weights=[2, 1, 1])`, in the order Objects365, Visual Genome and GQA, Flickr30k. Evaluation: Flickr30k's validation part.
"""

from mmengine.config import read_base

with read_base():
    from .goldg import *
    from .objects365 import train_dataloader as objects365

train_dataloader["dataset"]["datasets"].insert(0, objects365["dataset"])
