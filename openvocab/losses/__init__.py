"""Loss functions; each is pure and works in float32 under autocast."""

from openvocab.losses.contrastive import info_nce
from openvocab.losses.pixel import check_labels, pixel_cross_entropy, upsampled_cross_entropy

__all__ = ["check_labels", "info_nce", "pixel_cross_entropy", "upsampled_cross_entropy"]
