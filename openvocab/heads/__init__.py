"""Heads; importing this package registers them."""

from openvocab.heads.clip_on_regions import CLIPOnRegionsHead
from openvocab.heads.contrastive import ContrastiveHead
from openvocab.heads.dense_clip import DenseCLIPHead
from openvocab.heads.fvlm import FVLMHead
from openvocab.heads.groupvit import GroupViTHead
from openvocab.heads.linear import LinearHead
from openvocab.heads.lseg import LSegHead
from openvocab.heads.vild import ViLDHead

__all__ = [
    "CLIPOnRegionsHead",
    "ContrastiveHead",
    "DenseCLIPHead",
    "FVLMHead",
    "GroupViTHead",
    "LSegHead",
    "LinearHead",
    "ViLDHead",
]
