"""GLIP-T (B), with fusion, on Objects365; evaluated on COCO, of which it has seen no box.

Paper: Grounded Language-Image Pre-training (arXiv 2112.03857). Recipe and departure as in `glip_t_a_o365.py`.
Official weights: python tools/convert_checkpoint.py glip glip_tiny_model_o365.pth glip_t_b.pth && python tools/test.py
configs/glip_t_b_o365.py glip_t_b.pth
Command: torchrun --nproc_per_node 8 --nnodes 4 --rdzv_backend c10d --rdzv_endpoint HOST:29500 tools/train.py
configs/glip_t_b_o365.py --launcher pytorch
Hardware: 32 GPUs; time and memory not yet measured. Expected score: not yet measured. Published: 44.9 box AP on COCO.
"""

from mmengine.config import read_base

with read_base():
    from .glip_t_a_o365 import *

model["head"]["tower"]["fused"] = True
