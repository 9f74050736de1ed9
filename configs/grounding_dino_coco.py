"""Grounding DINO on COCO, 48 base and 17 novel classes: transformers' model with the data and the metric of this library.

Paper: Grounding DINO: Marrying DINO with Grounded Pre-Training for Open-Set Object Detection (arXiv 2303.05499). Weights: the
authors' Swin-T (Apache-2.0), which has seen boxes of all COCO classes in Objects365: "novel" says what the split calls so, not
what is new to the network. A name is scored by the mean over its tokens, as in the official evaluation on COCO.
Command: pip install openvocab[hf] && python tools/test.py configs/grounding_dino_coco.py
Other weights: --cfg-options model.pretrained=hf-hub:IDEA-Research/grounding-dino-base; MM-Grounding-DINO and LLMDet run, too.
A folder instead of the hub: model.pretrained=PATH.
Files: see `_base_/datasets/coco_detection.py`; only the validation part is needed.
Hardware: one GPU. Expected score: not yet measured. Published, on all 80 classes at once: 48.4 box AP.
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
    pretrained="hf-hub:IDEA-Research/grounding-dino-tiny",
    templates="none",
    detections=dict(one_class_per_box=False, nms_iou=1.0, max_detections=300),
    options=dict(phrase_score="mean"),
)

# the model resizes images itself
val_dataloader["dataset"].update(
    with_masks=False, pipeline=[dict(type=LoadImage), dict(type=LoadInstances), dict(type=PackSample)]
)
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(type=CocoAveragePrecision)
