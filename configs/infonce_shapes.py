"""CLIP's own loss on Shapes, without noun prompts.

Paper: Learning Transferable Visual Models From Natural Language Supervision (arXiv 2103.00020), at small scale.
Command: python tools/train.py configs/infonce_shapes.py (after python tools/make_shapes.py)
Hardware: 2 CPU cores.
Expected score: see docs/results.md; zero-shot top1 over 48 classes of single objects, by
python tools/test.py configs/infonce_shapes.py work_dirs/infonce_shapes/last.pth
"""

from mmengine.config import read_base

from openvocab.backbones.clip import CLIPBackbone
from openvocab.heads.contrastive import ContrastiveHead
from openvocab.model import OpenVocabModel
from openvocab.text.clip_text import CLIPTextEncoder

with read_base():
    from ._base_.shapes_pretraining import *

model = dict(
    type=OpenVocabModel,
    backbone=dict(type=CLIPBackbone, model="ConvNet-8-shapes", trainable="all"),
    text_encoder=dict(type=CLIPTextEncoder, model="ConvNet-8-shapes", templates="simple", trainable="all"),
    head=dict(type=ContrastiveHead),
)
