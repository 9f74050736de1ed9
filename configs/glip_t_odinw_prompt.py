"""GLIP-T on a dataset of ODinW by prompt tuning: an offset of every token of the fixed prompt is all that is learned.

Paper: Grounded Language-Image Pre-training (arXiv 2112.03857). Official recipe: rate 0.05, decay 0.25, everything else
frozen and without dropout; the rest as in `glip_t_odinw.py`. The offset belongs to the positions of the
prompt: predict with the same names in the same order.
Command: torchrun --nproc_per_node 4 tools/train.py configs/glip_t_odinw_prompt.py --launcher pytorch
--cfg-options load_from=glip_t_prompt.pth, weights with an offset of zero (docs/detection.md)
Hardware: 4 GPUs. Expected score: not yet measured.
"""

from mmengine.config import read_base

with read_base():
    from .glip_t_odinw import *

model["backbone"]["trainable"] = model["text_encoder"]["trainable"] = "none"
model["head"]["trained_parts"] = "prompt"
optim_wrapper["optimizer"].update(lr=0.05, weight_decay=0.25)
