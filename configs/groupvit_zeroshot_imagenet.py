"""Zero-shot classification of ImageNet-1k by GroupViT, with the protocol of its released code.

Paper: GroupViT: Semantic Segmentation Emerges from Text Supervision (arXiv 2202.11094). The projected mean of the segments
is compared with the mean of seven prompts per class, which are not normalized before they are averaged.
Command: python tools/convert_checkpoint.py groupvit group_vit_gcc_yfcc_30e.pth groupvit.pth &&
python tools/test.py configs/groupvit_zeroshot_imagenet.py groupvit.pth
The RedCaps weights: --cfg-options model.head.multi_label.num_prompts=0
Names: those of the released code, which are CLIP's; see `clip_zeroshot_imagenet.py`.
Hardware: one GPU, minutes for the 50,000 validation images. Expected score: not yet measured here. Published: 43.7 and 51.6 %
top1 (CC and YFCC; CC and RedCaps).
"""

from mmengine.config import read_base

from openvocab.backbones.patch_embedding import PatchEmbedding
from openvocab.heads.groupvit_classifier import GroupViTClassifierHead
from openvocab.model import OpenVocabModel
from openvocab.text.clip_text import CLIPTextEncoder

with read_base():
    from ._base_.datasets.imagenet import *
    from ._base_.runtime import *

# CLIP's `imagenet7`, except for the article of the second
templates = [
    "itap of a {}.",
    "a bad photo of a {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
]
model = dict(
    type=OpenVocabModel,
    backbone=dict(type=PatchEmbedding, width=384, patch_size=16, image_size=224),
    text_encoder=dict(
        type=CLIPTextEncoder,
        model="GroupViT",
        projector=(4096, 256),
        templates=templates,
        normalize_templates=False,
    ),
    head=dict(
        type=GroupViTClassifierHead,
        transformer=dict(depths=(6, 3, 3), num_groups=(64, 8, 0)),
        multi_label=dict(num_prompts=3),
    ),
)
val_dataloader["dataset"].update(
    classes="clip_imagenet_1k", class_options=dict(repeated_names=["missile", "sunglasses"])
)
val_dataloader["dataset"]["pipeline"][1].update(short_side=256, interpolation="bilinear")
test_dataloader = val_dataloader
