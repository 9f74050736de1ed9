"""Loss functions; each is pure and works in float32 under autocast."""

from openvocab.losses.contrastive import decoupled_info_nce, info_nce
from openvocab.losses.filip import filip
from openvocab.losses.location_boxes import centered_giou, centerness_cross_entropy
from openvocab.losses.masked_language import corrupt_tokens, masked_language
from openvocab.losses.nearest_neighbor import TextQueue
from openvocab.losses.nt_xent import nt_xent
from openvocab.losses.one_directional import one_directional_info_nce
from openvocab.losses.patch_correspondence import matching_patches
from openvocab.losses.pixel import check_labels, pixel_cross_entropy, sampled_cross_entropy, upsampled_cross_entropy
from openvocab.losses.siglip import siglip
from openvocab.losses.similarity_regularization import similarity_regularization
from openvocab.losses.simsiam import simsiam
from openvocab.losses.token_focal import token_focal

__all__ = [
    "TextQueue",
    "centered_giou",
    "centerness_cross_entropy",
    "check_labels",
    "corrupt_tokens",
    "decoupled_info_nce",
    "filip",
    "info_nce",
    "masked_language",
    "matching_patches",
    "nt_xent",
    "one_directional_info_nce",
    "pixel_cross_entropy",
    "sampled_cross_entropy",
    "siglip",
    "similarity_regularization",
    "simsiam",
    "token_focal",
    "upsampled_cross_entropy",
]
