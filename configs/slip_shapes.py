"""SLIP on Shapes: CLIP on the whole image, and SimCLR on two views of it.

Paper: SLIP: Self-supervision meets Language-Image Pre-training (arXiv 2112.12750), at small scale. Departures: SimCLR reads the
joint embedding (official: the features before its projection, `layer` of the term), since this tower has only 128
dimensions; its views change colors less and are neither turned gray nor blurred, after which forms of 12 to
32 px could hardly be told apart.
Command: python tools/train.py configs/slip_shapes.py (after python tools/make_shapes.py)
Hardware: 2 CPU cores; an iteration costs about twice that of infonce_shapes (three views).
Expected score: see docs/results.md; zero-shot top1 over 48 classes of single objects, by
python tools/test.py configs/slip_shapes.py work_dirs/slip_shapes/last.pth
"""

from mmengine.config import read_base

from openvocab.backbones.clip import CLIPBackbone
from openvocab.datasets.transforms import CropViews, LoadImage, PackViews, PhotometricDistortion
from openvocab.heads.contrastive import ContrastiveHead
from openvocab.heads.terms import CaptionContrast, ViewContrast
from openvocab.model import OpenVocabModel
from openvocab.text.clip_text import CLIPTextEncoder

with read_base():
    from ._base_.shapes_pretraining import *

model = dict(
    type=OpenVocabModel,
    backbone=dict(type=CLIPBackbone, model="ConvNet-8-shapes", trainable="all"),
    text_encoder=dict(type=CLIPTextEncoder, model="ConvNet-8-shapes", templates="simple", trainable="all"),
    head=dict(
        type=ContrastiveHead,
        terms=[
            dict(type=CaptionContrast),
            dict(type=ViewContrast, views=(1, 2), hidden_dim=256, out_dim=128, temperature=0.1),
        ],
    ),
)

# Captions belong to the whole image with its colors and sides. The other two views are never compared with them.
ssl_view = dict(area=(0.4, 1.0), flip=0.5, transforms=[dict(type=PhotometricDistortion)])
train_dataloader["dataset"]["pipeline"] = [
    dict(type=LoadImage),
    dict(type=CropViews, size=(64, 64), views=[dict(), ssl_view, ssl_view]),
    dict(type=PackViews),
]
