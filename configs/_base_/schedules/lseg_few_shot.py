"""Training of LSeg's zero-shot form, with the defaults of its official code.

SGD 0.9, weight decay 1e-4, rate 0.004 / 16 for each of 20 episodes on a GPU, ten times that for the decoder, synchronized
batch norm, float32. The rate decays polynomially (power 0.9) over 200 epochs, but on PASCAL-5i and COCO-20i the official
run ends after 4 of them, when it has fallen by 2 %. On FSS-1000 it runs to the end, and the rate falls to zero. As everywhere
here, it falls per iteration, not per epoch (`sgd_poly.py`). A config sets `train_cfg["max_iters"]` and
`param_scheduler[0]["end"]` for one GPU; on N GPUs, the official epochs have 1/N of the steps, at the same rate.

The hyperparameters of the published weights were never published (isl-org/lang-seg issues 19 and 34, in which others reach
28 mIoU instead of 52.8 on fold 0).
"""

from mmengine.config import read_base

with read_base():
    from .sgd_poly import *

optim_wrapper["optimizer"]["lr"] = 0.004 / 16 * 20
optim_wrapper["paramwise_cfg"]["custom_keys"]["head.reassemble"] = dict(lr_mult=1.0)  # belongs to the encoder there
sync_bn = "torch"
