"""All options of x-clip together on Shapes: decoupled loss, second projections, more views, patches, masked words.

Code: lucidrains/x-clip; papers: arXiv 2110.06848 (DCL), 2110.11316 (CLOOB), 2110.05208 (DeCLIP), 2002.05709 (SimCLR),
2309.08773 (similarity). Its default weights, and its bidirectional text tower for the masked words. Departures: patches
are compared where both crops show the same position, unlike in x-clip (`parity="xclip"` compares its rows); the
similarity regularization is on, within the weight of the first term (x-clip: off by default), and the scale starts at CLIP's
14.3 (x-clip: 2.7). This is our baseline, not a run that x-clip has published.
Command: python tools/train.py configs/xclip_shapes.py (after python tools/make_shapes.py)
Hardware: 2 CPU cores; an iteration costs about two and a half times that of infonce_shapes (two views).
Expected score: see docs/results.md; zero-shot top1 over 48 classes of single objects, by
python tools/test.py configs/xclip_shapes.py work_dirs/xclip_shapes/last.pth
"""

from mmengine.config import read_base

from openvocab.backbones.clip import CLIPBackbone
from openvocab.datasets.transforms import AddEditedCaption, CropViews, LoadImage, PackViews
from openvocab.heads.contrastive import ContrastiveHead
from openvocab.heads.terms import CaptionContrast, MaskedLanguage, PatchContrast, TwoProjectionContrast
from openvocab.model import OpenVocabModel
from openvocab.text.clip_text import CLIPTextEncoder

with read_base():
    from ._base_.shapes_pretraining import *

model = dict(
    type=OpenVocabModel,
    backbone=dict(type=CLIPBackbone, model="ConvNet-8-shapes-bidirectional", trainable="all"),
    text_encoder=dict(
        type=CLIPTextEncoder, model="ConvNet-8-shapes-bidirectional", templates="simple", trainable="all"
    ),
    head=dict(
        type=ContrastiveHead,
        terms=[
            dict(type=TwoProjectionContrast, weight=0.8, decoupled=True, similarity=0.1),
            dict(type=CaptionContrast, weight=0.1, name="multiview", pairs=((0, 1), (1, 0), (1, 1)), decoupled=True),
            dict(type=PatchContrast, weight=0.05, hidden_dim=128, out_dim=64, max_pairs=512),
            dict(type=MaskedLanguage, weight=0.05, mask_share=0.9, random_share=0.0),
        ],
    ),
)

# Both views are compared with the captions, so the crops are mild, and neither sides nor colors change.
train_dataloader["dataset"]["pipeline"] = [
    dict(type=LoadImage),
    dict(type=AddEditedCaption, delete=0.1),
    dict(type=CropViews, size=(64, 64), views=[dict(), dict(area=(0.7, 1.0))]),
    dict(type=PackViews),
]
