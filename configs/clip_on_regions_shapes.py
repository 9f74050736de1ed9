"""CLIP on the proposals of a Shapes detector, without training: ViLD's teacher alone.

Paper: the baseline of Open-vocabulary Object Detection via Vision and Language Knowledge Distillation (arXiv 2104.13921).
Command: python tools/test.py configs/clip_on_regions_shapes.py
Files: work_dirs/clip_shapes/last.pth and work_dirs/vild_text_shapes/last.pth, from `clip_shapes.py` and `vild_text_shapes.py`.
Hardware: 2 CPU cores, half a minute. Expected score: box AP50 base 21.5 ± 1.1, novel 23.2 ± 0.9 over three seeds.
"""

from mmengine.config import read_base

from openvocab.backbones.clip import CLIPBackbone
from openvocab.datasets.transforms import LoadImage, LoadInstances, PackSample
from openvocab.heads.clip_on_regions import CLIPOnRegionsHead
from openvocab.metrics.detection.average_precision import CocoAveragePrecision
from openvocab.model import OpenVocabModel
from openvocab.teacher import EmbedRegions
from openvocab.teacher.detector_proposals import DetectorProposals
from openvocab.text.clip_text import CLIPTextEncoder

with read_base():
    from ._base_.datasets.shapes_detection import *
    from ._base_.runtime import *

clip = dict(model="ConvNet-8-shapes", pretrained="work_dirs/clip_shapes/last.pth")
model = dict(
    type=OpenVocabModel,
    backbone=dict(type=CLIPBackbone, **clip),
    text_encoder=dict(type=CLIPTextEncoder, templates="none", **clip),
    head=dict(type=CLIPOnRegionsHead, temperature=0.05, max_detections=100),
)
teacher = dict(
    **clip,
    crop="squash",
    dtype="auto",
    proposals=dict(
        type=DetectorProposals,
        config="configs/vild_text_shapes.py",
        checkpoint="work_dirs/vild_text_shapes/last.pth",
        per_image=12,
        max_overlap=0.5,
    ),
)
val_dataloader["dataset"]["pipeline"] = [
    dict(type=LoadImage),
    dict(type=LoadInstances),
    dict(type=EmbedRegions, teacher=teacher),
    dict(type=PackSample),
]
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(type=CocoAveragePrecision)
