"""Retrieval on Shapes with its tiny CLIP: 500 scenes and their 2500 captions, in both directions.

Paper: Learning Transferable Visual Models From Natural Language Supervision (arXiv 2103.00020). Network of `clip_shapes.py`; no "a
photo of" before the captions, which begin as they do in training.
Command: python tools/test.py configs/clip_retrieval_shapes.py work_dirs/clip_shapes/last.pth
Hardware: 2 CPU cores, half a minute. Expected score: R@1, R@5, R@10 in percent: image to text 28.8, 58.8, 72.8; text to image
18.1, 44.0, 55.6 (means over five seeds of `clip_shapes.py` in bfloat16).
"""

from mmengine.config import read_base
from mmengine.dataset import DefaultSampler

from openvocab.backbones.clip import CLIPBackbone
from openvocab.datasets.captions import CaptionDataset
from openvocab.datasets.transforms import LoadImage, PackSample
from openvocab.heads.contrastive import ContrastiveHead
from openvocab.metrics.retrieval import RetrievalRecall
from openvocab.model import OpenVocabModel
from openvocab.text.clip_text import CLIPTextEncoder

with read_base():
    from ._base_.runtime import *

model = dict(
    type=OpenVocabModel,
    backbone=dict(type=CLIPBackbone, model="ConvNet-8-shapes"),
    text_encoder=dict(type=CLIPTextEncoder, model="ConvNet-8-shapes", templates="none"),
    head=dict(type=ContrastiveHead),
)

test_dataloader = dict(
    batch_size=125,
    num_workers=0,
    sampler=dict(type=DefaultSampler, shuffle=False, round_up=False),
    dataset=dict(
        type=CaptionDataset,
        root="data/shapes",
        annotations="captions_val.jsonl",
        test_mode=True,
        pipeline=[dict(type=LoadImage), dict(type=PackSample)],
    ),
)
test_evaluator = dict(type=RetrievalRecall)
