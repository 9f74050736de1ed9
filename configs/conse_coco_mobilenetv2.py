"""ConSE on COCO: no training at all, on the network and text rows of `lseg_coco_mobilenetv2.py`, as its baseline.

Paper: Zero-Shot Learning by Convex Combination of Semantic Embeddings (arXiv 1312.5650), applied to every place: the ten
likeliest ImageNet classes vote with the CLIP rows of their names, and a place takes the COCO name nearest to the mean.
ImageNet names that LVIS has no row for are passed over.
Command: python tools/test.py configs/conse_coco_mobilenetv2.py
Files: those of `lseg_coco_mobilenetv2.py`, and the LVIS rows beside its COCO rows.
Hardware: 2 CPU cores, half a minute. Expected score: base mIoU 11.7, novel 8.9, measured by the command above.
"""

from mmengine.config import read_base

from openvocab.backbones.conse import ConSEBackbone
from openvocab.heads.dense_clip import DenseCLIPHead
from openvocab.text.precomputed import PrecomputedTextEncoder

with read_base():
    from .lseg_coco_mobilenetv2 import *

tower = model["backbone"]
model["backbone"] = dict(
    type=ConSEBackbone,
    model=tower["model"],
    pretrained=tower["pretrained"],
    mean=tower["mean"],
    std=tower["std"],
    model_args=tower["model_args"],
    class_names="imagenet_1k",
    text_encoder=dict(
        type=PrecomputedTextEncoder,
        path=f"{data}/meta/text_embeddings/lvis1203_vitb32_a.npy",
        names="lvis_1203_synonyms",
        templates_note="a {}, OpenAI ViT-B/32",
    ),
)
model["head"] = dict(type=DenseCLIPHead)
