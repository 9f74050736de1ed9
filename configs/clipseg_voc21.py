"""CLIPSeg on PASCAL VOC 2012 with background: transformers' model with the data and the metric of this library.

Paper: Image Segmentation Using Text and Image Prompts (arXiv 2112.10003). Weights: the authors' `rd64-refined` (Apache-2.0).
CLIPSeg segments one name at a time; here a pixel gets the name with the largest logit, and the background if its probability is
below one half.
Command: pip install openvocab[hf] && python tools/test.py configs/clipseg_voc21.py
Hardware: one GPU. Expected score: not yet measured. No score with this protocol is published.
"""

from mmengine.config import read_base

from openvocab.datasets.transforms import LoadImage, LoadLabels, PackSample
from openvocab.foreign.transformers_model import TransformersModel

with read_base():
    from ._base_.datasets.pascal_voc import *
    from ._base_.runtime import *

model = dict(
    type=TransformersModel,
    pretrained="hf-hub:CIDAS/clipseg-rd64-refined",
    templates="simple",
    options=dict(background_threshold=0.5),
)

# the model resizes images itself
val_dataloader["dataset"].update(
    pipeline=[dict(type=LoadImage), dict(type=LoadLabels), dict(type=PackSample)],
)
test_dataloader = val_dataloader
