"""LLMDet on LVIS, 1203 classes by fixed AP: transformers' model with the data and the metric of this library.

Paper: LLMDet: Learning Strong Open-Vocabulary Object Detectors under the Supervision of Large Language Models (arXiv 2501.18954),
a Grounding DINO of MMDetection's recipe (arXiv 2401.02361). Weights: the authors' Swin-T (Apache-2.0). 40 names at once, the mean
over the tokens of a name, and the 1000 best of all pairs of a box and a class per image, of which the 10,000 best per class count
(fixed AP, arXiv 2102.01066).
Command: pip install openvocab[hf] && python tools/test.py configs/llmdet_lvis.py
Other weights: --cfg-options model.pretrained=hf-hub:iSEE-Laboratory/llmdet_large; Grounding DINO and MM-Grounding-DINO run, too.
Files: see `_base_/datasets/lvis_detection.py`; only the validation part is needed.
Hardware: one GPU; 31 passes of the fusion per image. Expected score: not yet measured. Published: 34.9 AP on the whole of val.
"""

from mmengine.config import read_base

from openvocab.datasets.transforms import LoadImage, LoadInstances, PackSample
from openvocab.foreign.transformers_model import TransformersModel
from openvocab.metrics.detection.average_precision import LvisAveragePrecision

with read_base():
    from ._base_.datasets.lvis_detection import *
    from ._base_.runtime import *

model = dict(
    type=TransformersModel,
    pretrained="hf-hub:iSEE-Laboratory/llmdet_tiny",
    templates="none",
    names_at_once=40,
    detections=dict(one_class_per_box=False, nms_iou=1.0, max_detections=1000),
    options=dict(phrase_score="mean"),
)

# the model resizes images itself
val_dataloader["dataset"].update(
    with_masks=False, pipeline=[dict(type=LoadImage), dict(type=LoadInstances), dict(type=PackSample)]
)
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(type=LvisAveragePrecision, fixed=True)
