"""Zero-shot retrieval by CLIP ViT-L/14 at 336 px: the 1,000 images and 5,000 captions of Flickr30k, in both directions.

Paper: Learning Transferable Visual Models From Natural Language Supervision (arXiv 2103.00020), which puts "a photo of" before
every caption.
Command: python tools/test.py configs/clip_retrieval_flickr30k.py
Captions without it: --cfg-options model.text_encoder.templates=none
Another CLIP: --cfg-options model.backbone.model=NAME model.backbone.pretrained=TAG, the same for model.text_encoder, and its
size as test_dataloader.dataset.pipeline.1.size
Hardware: one GPU. Expected score: not yet measured; published R@1, R@5, R@10 in percent: image to text 88.0, 98.7, 99.4; text to
image 68.7, 90.6, 95.2 (table 13).
"""

from mmengine.config import read_base

from openvocab.backbones.clip import CLIPBackbone
from openvocab.heads.contrastive import ContrastiveHead
from openvocab.model import OpenVocabModel
from openvocab.text.clip_text import CLIPTextEncoder

with read_base():
    from ._base_.datasets.karpathy_flickr30k import *
    from ._base_.runtime import *

clip = dict(model="ViT-L-14-336-quickgelu", pretrained="openai")
model = dict(
    type=OpenVocabModel,
    backbone=dict(type=CLIPBackbone, **clip),
    text_encoder=dict(type=CLIPTextEncoder, templates=["a photo of {}"], **clip),
    head=dict(type=ContrastiveHead),
)
test_dataloader["dataset"]["pipeline"][1].update(size=(336, 336))
