"""MaskCLIP, as in its official code for vision transformers and ResNets."""

from torch import Tensor

from openvocab.backbones.readouts.base import AttentionReadout
from openvocab.layers.clip_attention import Projections
from openvocab.registry import READOUTS
from openvocab.structures import Size


@READOUTS.register_module(name="maskclip")
class MaskCLIP(AttentionReadout):
    """Values instead of attention: y = x + out_proj(v), then y + ffn(ln_2(y)); in the pool of a ResNet out_proj(v).

    This is the training-free MaskCLIP. The paper's MaskCLIP+, which trains a segmenter on its labels, is not included.

    The official code builds the towers with exact GELU and a norm epsilon of 1e-6, although the weights were trained
    with QuickGELU and 1e-5; here a tower computes as in training. Key smoothing and prompt denoising, which use the
    keys that this readout returns, are `DenseCLIPHead(ks_thresh=..., pd_thresh=...)`.

    Reference: arXiv 2112.01071.
    """

    position_resize = "bicubic_plain"
    gives_keys = True
    whole_block = True
    pool_positions = False

    def mix(self, projections: Projections, grid_size: Size) -> Tensor:
        """Return the values (B, heads, N, d) unchanged; see `AttentionReadout.mix`."""
        return projections[2]
