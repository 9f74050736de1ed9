"""FILIP on Shapes: late interaction of patches and words, in addition to CLIP's pooled loss.

Paper: FILIP: Fine-grained Interactive Language-Image Pre-Training (arXiv 2111.07783), at small scale. The paper
classifies by late interaction; here the pooled embeddings are trained too and used to classify, as in DeFILIP (arXiv
2203.05796), so a vocabulary of any size is a matrix of rows. Departures: all tokens are used (paper and its public code: the
most similar ones, to save traffic between machines), in the joint space and with the scale of the pooled loss
(code: a separate projection and scale), so that words and patches are comparable with class names at test time.
Command: python tools/train.py configs/filip_shapes.py (after python tools/make_shapes.py)
Hardware: 2 CPU cores.
Expected score: see docs/results.md; zero-shot top1 over 48 classes of single objects, by
python tools/test.py configs/filip_shapes.py work_dirs/filip_shapes/last.pth
"""

from mmengine.config import read_base

from openvocab.backbones.clip import CLIPBackbone
from openvocab.heads.contrastive import ContrastiveHead
from openvocab.heads.terms import CaptionContrast, TokenContrast
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
            dict(type=TokenContrast, weight=0.5, pool=2),
        ],
    ),
)
