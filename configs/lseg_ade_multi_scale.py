"""LSeg on ADE20K-150, tested as published: six scales and flip of the original image, logits summed at its size.

Paper: Language-driven Semantic Segmentation (arXiv 2201.03546). The model is that of `lseg_ade.py`; this config is for
testing, `lseg_ade.py` trains and validates with one scale.
Command: python tools/convert_checkpoint.py lseg official.ckpt lseg_ade.pth &&
python tools/test.py configs/lseg_ade_multi_scale.py lseg_ade.pth
Hardware: one GPU of 12 GB; time not yet measured. Expected score: not yet measured. Paper: 43.6 mIoU, 82.5 pixel
accuracy.
"""

from mmengine.config import read_base

from openvocab.datasets.transforms import LoadImage, LoadLabels, PackSample
from openvocab.inference.multi_scale import MultiScaleFlip

with read_base():
    from .lseg_ade import *

model["inference"] = dict(type=MultiScaleFlip)
test_dataloader["dataset"]["pipeline"] = [dict(type=LoadImage), dict(type=LoadLabels), dict(type=PackSample)]
