"""OmDet-Turbo on COCO, 48 base and 17 novel classes: transformers' model with the data and the metric of this library.

Paper: Real-time Transformer-based Open-Vocabulary Detection with Efficient Fusion Head (arXiv 2403.06892). Weights: the authors'
Swin-T (Apache-2.0); the decoder runs for about 25 names at a time, as many as its sentence for them has room for.
Command: pip install openvocab[hf] && python tools/test.py configs/omdet_turbo_coco.py
Files: see `_base_/datasets/coco_detection.py`; only the validation part is needed.
Hardware: one GPU. Expected score: not yet measured. Published, on all 80 classes at once: 42.5 box AP.
"""

from mmengine.config import read_base

from openvocab.datasets.transforms import LoadImage, LoadInstances, PackSample
from openvocab.foreign.transformers_model import TransformersModel
from openvocab.metrics.detection.average_precision import CocoAveragePrecision

with read_base():
    from ._base_.datasets.coco_detection import *
    from ._base_.runtime import *

model = dict(
    type=TransformersModel,
    pretrained="hf-hub:omlab/omdet-turbo-swin-tiny-hf",
    templates="none",
    detections=dict(one_class_per_box=False, nms_iou=0.5, max_detections=300),
)

# the model resizes images itself
val_dataloader["dataset"].update(
    with_masks=False, pipeline=[dict(type=LoadImage), dict(type=LoadInstances), dict(type=PackSample)]
)
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(type=CocoAveragePrecision)
