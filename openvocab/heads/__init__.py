"""Heads; importing this package registers them."""

from openvocab.heads.contrastive import ContrastiveHead
from openvocab.heads.lseg import LSegHead

__all__ = ["ContrastiveHead", "LSegHead"]
