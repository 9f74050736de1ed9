"""OWLv2 on COCO, 48 base and 17 novel classes: every patch of a CLIP ViT-B/16 is a candidate object.

Paper: Scaling Open-Vocabulary Object Detection (arXiv 2306.09683). Weights: Google's base model, the ensemble of the self-trained
and the fine-tuned one (Apache-2.0). It has seen boxes of all COCO classes in Objects365 and Visual Genome, so that "novel" says
what the split calls so, not what is new to the network.
Seven templates and the square of 960 px, padded with black, are those of the official evaluation. A box may become objects of
several classes, as average precision asks.
Command: python tools/convert_checkpoint.py owlv2 hf-hub:google/owlv2-base-patch16-ensemble owlv2.pth &&
python tools/test.py configs/owlv2_coco.py owlv2.pth
Another folder, one photo: openvocab.load("owlv2-base-patch16-ensemble").
Files: see `_base_/datasets/coco_detection.py`; only the validation part is needed.
Hardware: one GPU. Expected score: not yet measured. No score on this split is published.
"""

from mmengine.config import read_base

from openvocab.backbones.clip import CLIPBackbone
from openvocab.datasets.transforms import LoadImage, LoadInstances, PackSample, Resize
from openvocab.heads.owl import OWLHead
from openvocab.inference.square_image import SquareImage
from openvocab.metrics.detection.average_precision import CocoAveragePrecision
from openvocab.model import OpenVocabModel
from openvocab.text.clip_text import CLIPTextEncoder

with read_base():
    from ._base_.datasets.coco_detection import *
    from ._base_.runtime import *

clip = dict(model="OWLv2-ViT-B-16")
model = dict(
    type=OpenVocabModel,
    backbone=dict(type=CLIPBackbone, trainable="none", **clip),
    text_encoder=dict(type=CLIPTextEncoder, templates="imagenet7", **clip),
    head=dict(type=OWLHead, detections=dict(one_class_per_box=False, nms_iou=1.0, max_detections=300)),
    inference=dict(type=SquareImage),
)

val_dataloader["dataset"].update(
    with_masks=False,
    pipeline=[
        dict(type=LoadImage),
        dict(type=Resize, long_side=960),
        dict(type=LoadInstances),
        dict(type=PackSample),
    ],
)
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(type=CocoAveragePrecision)
