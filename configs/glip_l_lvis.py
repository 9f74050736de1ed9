"""GLIP-L on LVIS, 1203 classes by fixed AP, as published; protocol and files as in `glip_t_lvis.py`.

Paper: Grounded Language-Image Pre-training (arXiv 2112.03857).
Command: python tools/convert_checkpoint.py glip glip_large_model.pth glip_l.pth && python tools/test.py
configs/glip_l_lvis.py glip_l.pth
Hardware: one GPU. Expected score: not yet measured. Published on minival: AP 37.3, AP_r of the last checkpoint 29.3.
"""

from mmengine.config import read_base

with read_base():
    from .glip_t_lvis import *

model["backbone"].update(dim=192, depths=(2, 2, 18, 2), heads=(6, 12, 24, 48), window=12, drop_path=0.4)
model["head"]["tower"]["num_blocks"] = 8
