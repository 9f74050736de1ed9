"""ClearCLIP: query-query attention, without the rest of the last block."""

from torch import Tensor

from openvocab.backbones.readouts.base import AttentionReadout
from openvocab.layers.attention import attend
from openvocab.layers.clip_attention import Projections
from openvocab.registry import READOUTS
from openvocab.structures import Size


@READOUTS.register_module(name="clearclip")
class ClearCLIP(AttentionReadout):
    """softmax(s q qT) v, without residual connection and feed-forward network.

    Reference: arXiv 2407.12442.
    """

    def mix(self, projections: Projections, grid_size: Size) -> Tensor:
        """Average the values (B, heads, N, d) by the similarity of queries; see `AttentionReadout.mix`."""
        q, _, v = projections
        return attend(q, q, v)
