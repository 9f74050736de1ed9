"""DeCLIP on Shapes: two views by two texts, SimSiam, masked words and the nearest past caption.

Paper: Supervision Exists Everywhere (arXiv 2110.05208), at small scale, with its weights (.4, .2, .2, .2).
Departures: views are mild crops that change neither sides nor colors, since captions state both (paper: small crops,
flips, colors, gray and blur); captions are edited only by dropping words, since swapping words gives colors to other
forms, and the words of Shapes have no synonyms (official: one of the three edits); the queue holds 4096 texts, not
65,536, and SimSiam's layers are 256 and 64 wide, not 1024 and 512, as the tower is small; masked words are predicted
with the tower's token embeddings, without another layer (official: one layer); all ranks share one queue, which
starts empty (see `NeighborContrast`).
Command: python tools/train.py configs/declip_shapes.py (after python tools/make_shapes.py)
Hardware: 2 CPU cores; an iteration costs several times that of infonce_shapes (two views).
Expected score: see docs/results.md; zero-shot top1 over 48 classes of single objects, by
python tools/test.py configs/declip_shapes.py work_dirs/declip_shapes/last.pth
"""

from mmengine.config import read_base

from openvocab.backbones.clip import CLIPBackbone
from openvocab.datasets.transforms import AddEditedCaption, CropViews, LoadImage, PackViews
from openvocab.heads.contrastive import ContrastiveHead
from openvocab.heads.terms import CaptionContrast, MaskedLanguage, NeighborContrast, SimSiam
from openvocab.model import OpenVocabModel
from openvocab.text.clip_text import CLIPTextEncoder

with read_base():
    from ._base_.shapes_pretraining import *

all_pairs = ((0, 0), (0, 1), (1, 0), (1, 1))
model = dict(
    type=OpenVocabModel,
    backbone=dict(type=CLIPBackbone, model="ConvNet-8-shapes", trainable="all"),
    text_encoder=dict(type=CLIPTextEncoder, model="ConvNet-8-shapes", templates="simple", trainable="all"),
    head=dict(
        type=ContrastiveHead,
        terms=[
            dict(type=CaptionContrast, weight=0.4, pairs=all_pairs),
            dict(type=NeighborContrast, weight=0.2, pairs=all_pairs, queue=4096),
            dict(type=SimSiam, weight=0.2, hidden_dim=256, predictor_dim=64, scaled_targets=True),
            dict(type=MaskedLanguage, weight=0.2, match_masked=True),
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
