"""ConSE on COCO: the baseline without training, with the network and text rows of `lseg_coco_mobilenetv2.py`.

Paper: Zero-Shot Learning by Convex Combination of Semantic Embeddings (arXiv 1312.5650), applied to every position: the CLIP
rows of the ten most likely ImageNet classes are averaged, weighted by their scores, and the position gets the COCO name nearest
to the mean. ImageNet names without an LVIS row are skipped.
Command: python tools/test.py configs/conse_coco_mobilenetv2.py
Files: those of `lseg_coco_mobilenetv2.py`, and the LVIS rows next to its COCO rows.
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
