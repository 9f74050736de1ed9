"""MaskCLIP, as its own code reads a vision transformer and a ResNet."""

from torch import Tensor

from openvocab.backbones.readouts.base import AttentionReadout
from openvocab.layers.clip_attention import Projections
from openvocab.registry import READOUTS
from openvocab.structures import Size


@READOUTS.register_module(name="maskclip")
class MaskCLIP(AttentionReadout):
    """Values instead of attention: y = x + out_proj(v), then y + ffn(ln_2(y)); in the pool of a ResNet out_proj(v).

    This is MaskCLIP, the form of the paper that trains nothing. MaskCLIP+, its other one, trains a segmenter on labels
    that this makes, and is not here.

    The published towers were built with exact GELU and a norm epsilon of 1e-6, though the weights were trained with
    QuickGELU and 1e-5; here a tower computes as it was trained. Key smoothing and prompt denoising, which take the keys
    that this readout gives, are `DenseCLIPHead(ks_thresh=..., pd_thresh=...)`.

    Reference: arXiv 2112.01071.
    """

    position_resize = "bicubic_plain"
    gives_keys = True
    whole_block = True
    pool_positions = False

    def mix(self, projections: Projections, grid_size: Size) -> Tensor:
        """Return v."""
        return projections[2]
