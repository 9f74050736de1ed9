"""GLIP-T on a dataset of ODinW by a linear probe: only the last layers of boxes, centerness and alignment learn.

Paper: Grounded Language-Image Pre-training (arXiv 2112.03857). The rates of the official probe are not published: those of
tuning the whole model are used; the rest as in `glip_t_odinw.py`.
Command: torchrun --nproc_per_node 4 tools/train.py configs/glip_t_odinw_linear.py --launcher pytorch
--cfg-options load_from=glip_t.pth
Hardware: 4 GPUs. Expected score: not yet measured.
"""

from mmengine.config import read_base

with read_base():
    from .glip_t_odinw import *

model["backbone"]["trainable"] = model["text_encoder"]["trainable"] = "none"
model["head"]["trained_parts"] = "linear"
