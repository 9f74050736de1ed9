"""Zero-shot classification of your own images by CLIP: one folder of images per class, and a file of names.

Paper: Learning Transferable Visual Models From Natural Language Supervision (arXiv 2103.00020).
Command: python tools/test.py configs/clip_zeroshot_folder.py --cfg-options test_dataloader.dataset.images=DIR
test_dataloader.dataset.classes=NAMES.txt model.text_encoder.templates=imagenet80
Templates: simple, imagenet7, imagenet80, or your own sentences, '["a scan of a {}."]'. The embedding of a class is
the normalized mean of the normalized embeddings of its prompts.
Hardware: any. Expected score: depends on the images; `top1` and `top5` in percent.
"""

from mmengine.config import read_base

from openvocab.backbones.clip import CLIPBackbone
from openvocab.heads.contrastive import ContrastiveHead
from openvocab.model import OpenVocabModel
from openvocab.text.clip_text import CLIPTextEncoder

with read_base():
    from ._base_.datasets.folder import *
    from ._base_.runtime import *

clip = dict(model="ViT-B-16-quickgelu", pretrained="openai")
model = dict(
    type=OpenVocabModel,
    backbone=dict(type=CLIPBackbone, **clip),
    text_encoder=dict(type=CLIPTextEncoder, templates="imagenet80", **clip),
    head=dict(type=ContrastiveHead),
)
