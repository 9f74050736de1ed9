"""Heads; importing this package registers them."""

from openvocab.heads.contrastive import ContrastiveHead
from openvocab.heads.dense_clip import DenseCLIPHead
from openvocab.heads.lseg import LSegHead

__all__ = ["ContrastiveHead", "DenseCLIPHead", "LSegHead"]
