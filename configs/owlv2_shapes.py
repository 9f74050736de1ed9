"""OWLv2's network in the size of the Shapes world, to check the head against the contract of all heads.

Paper: Scaling Open-Vocabulary Object Detection (arXiv 2306.09683). The head is not trained in this library (see `OWLHead`): this
config has no published weights, and a score only for a checkpoint that was trained elsewhere.
Command: python tools/test.py configs/owlv2_shapes.py CHECKPOINT
Hardware: 2 CPU cores. Expected score: none.
"""

from mmengine.config import read_base

from openvocab.backbones.clip import CLIPBackbone
from openvocab.heads.owl import OWLHead
from openvocab.inference.square_image import SquareImage
from openvocab.metrics.detection.average_precision import CocoAveragePrecision
from openvocab.model import OpenVocabModel
from openvocab.text.clip_text import CLIPTextEncoder

with read_base():
    from ._base_.datasets.shapes_detection import *
    from ._base_.runtime import *

clip = dict(model="ViT-Ti-8-shapes")
model = dict(
    type=OpenVocabModel,
    backbone=dict(type=CLIPBackbone, **clip),
    text_encoder=dict(type=CLIPTextEncoder, templates="none", **clip),
    head=dict(type=OWLHead, detections=dict(one_class_per_box=False, nms_iou=0.5, max_detections=100)),
    inference=dict(type=SquareImage),
)
val_dataloader["dataset"].update(with_masks=False)
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(type=CocoAveragePrecision)
