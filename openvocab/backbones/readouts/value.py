"""Values only: the baseline that SCLIP and its successors call MaskCLIP."""

from torch import Tensor

from openvocab.backbones.readouts.base import AttentionReadout
from openvocab.layers.clip_attention import Projections
from openvocab.registry import READOUTS
from openvocab.structures import Size


@READOUTS.register_module(name="value")
class Value(AttentionReadout):
    """Identity attention: every token keeps its own value, without residual connection and feed-forward network."""

    def mix(self, projections: Projections, grid_size: Size) -> Tensor:
        """Return the values (B, heads, N, d) unchanged; see `AttentionReadout.mix`."""
        return projections[2]
