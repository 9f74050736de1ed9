"""GLIP-T on RefCOCO: does the best box of a whole expression enclose the object that it refers to?

Paper: Grounded Language-Image Pre-training (arXiv 2112.03857), which reports no numbers on RefCOCO: the protocol is ours,
the whole expression as one phrase. GLIP-T (C) and later have seen expressions of GoldG, but none of these images.
Command: python tools/convert_checkpoint.py glip glip_tiny_model_o365_goldg_cc_sbu.pth glip_t.pth && python tools/test.py
configs/glip_t_refcoco.py glip_t.pth
Other parts: see `_base_/datasets/refcoco.py`, which also lists the files.
Hardware: one GPU. Expected score: not yet measured.
"""

from mmengine.config import read_base

with read_base():
    from ._base_.datasets.refcoco import *
    from ._base_.glip_tiny import *
    from ._base_.runtime import *
