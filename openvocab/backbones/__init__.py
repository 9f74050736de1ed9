"""Image backbones; importing this package registers them."""

from openvocab.backbones.clip import CLIPBackbone
from openvocab.backbones.conse import ConSEBackbone
from openvocab.backbones.patch_embedding import PatchEmbedding
from openvocab.backbones.timm_backbone import TimmBackbone

__all__ = ["CLIPBackbone", "ConSEBackbone", "PatchEmbedding", "TimmBackbone"]
