"""OWLv2 on LVIS, 1203 classes by fixed AP: every patch of a CLIP ViT-B/16 is a candidate object.

Paper: Scaling Open-Vocabulary Object Detection (arXiv 2306.09683). Weights and protocol as in `owlv2_coco.py`. The 1000 best
of all pairs of a box and a class are kept per image, and the 10,000 best per class count (fixed AP, arXiv 2102.01066).
Command: python tools/convert_checkpoint.py owlv2 hf-hub:google/owlv2-base-patch16-ensemble owlv2.pth &&
python tools/test.py configs/owlv2_lvis.py owlv2.pth
Files: see `_base_/datasets/lvis_detection.py`; only the validation part is needed.
Hardware: one GPU. Expected score: not yet measured.
"""

from mmengine.config import read_base

from openvocab.backbones.clip import CLIPBackbone
from openvocab.datasets.transforms import LoadImage, LoadInstances, PackSample, Resize
from openvocab.heads.owl import OWLHead
from openvocab.inference.square_image import SquareImage
from openvocab.metrics.detection.average_precision import LvisAveragePrecision
from openvocab.model import OpenVocabModel
from openvocab.text.clip_text import CLIPTextEncoder

with read_base():
    from ._base_.datasets.lvis_detection import *
    from ._base_.runtime import *

clip = dict(model="OWLv2-ViT-B-16")
model = dict(
    type=OpenVocabModel,
    backbone=dict(type=CLIPBackbone, trainable="none", **clip),
    text_encoder=dict(type=CLIPTextEncoder, templates="imagenet7", **clip),
    head=dict(type=OWLHead, detections=dict(one_class_per_box=False, nms_iou=1.0, max_detections=1000)),
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
val_evaluator = test_evaluator = dict(type=LvisAveragePrecision, fixed=True)
