"""Heads; importing this package registers them."""

from openvocab.heads.contrastive import ContrastiveHead
from openvocab.heads.dense_clip import DenseCLIPHead
from openvocab.heads.groupvit import GroupViTHead
from openvocab.heads.linear import LinearHead
from openvocab.heads.lseg import LSegHead

__all__ = ["ContrastiveHead", "DenseCLIPHead", "GroupViTHead", "LSegHead", "LinearHead"]
