"""SCLIP: correlative self-attention."""

from torch import Tensor

from openvocab.backbones.readouts.base import AttentionReadout
from openvocab.layers.attention import attend
from openvocab.layers.clip_attention import Projections
from openvocab.registry import READOUTS
from openvocab.structures import Size


@READOUTS.register_module(name="sclip")
class SCLIP(AttentionReadout):
    """(softmax(s q qT) + softmax(s k kT)) v, whose weights sum to two, with residuals and feed-forward network.

    Reference: arXiv 2312.01597.
    """

    whole_block = True

    def mix(self, projections: Projections, grid_size: Size) -> Tensor:
        """Sum the query-query and the key-key attention of the values, (B, heads, N, d); see `AttentionReadout.mix`."""
        q, k, v = projections
        return attend(q, q, v) + attend(k, k, v)
