"""Zero-shot classification of ImageNet-1k by CLIP ViT-B/16, with 80 prompts per class.

Paper: Learning Transferable Visual Models From Natural Language Supervision (arXiv 2103.00020). The embedding of a class is
the normalized mean of the normalized embeddings of its prompts.
Command: python tools/test.py configs/clip_zeroshot_imagenet.py
Names: the list of CLIP's notebook, with which the published figure was measured. It has two pairs of classes with the same name
("missile": 657 and 744; "sunglasses": 836 and 837): the second of a pair is never predicted.
Another CLIP: --cfg-options model.backbone.model=NAME model.backbone.pretrained=TAG and the same for model.text_encoder
Hardware: one GPU, minutes for the 50,000 validation images. Expected score: not yet measured; published top1 68.3.
"""

from mmengine.config import read_base

from openvocab.backbones.clip import CLIPBackbone
from openvocab.heads.contrastive import ContrastiveHead
from openvocab.model import OpenVocabModel
from openvocab.text.clip_text import CLIPTextEncoder

with read_base():
    from ._base_.datasets.imagenet import *
    from ._base_.runtime import *

clip = dict(model="ViT-B-16-quickgelu", pretrained="openai")
model = dict(
    type=OpenVocabModel,
    backbone=dict(type=CLIPBackbone, **clip),
    text_encoder=dict(type=CLIPTextEncoder, templates="imagenet80", **clip),
    head=dict(type=ContrastiveHead),
)
val_dataloader["dataset"].update(
    classes="clip_imagenet_1k", class_options=dict(repeated_names=["missile", "sunglasses"])
)
test_dataloader = val_dataloader
