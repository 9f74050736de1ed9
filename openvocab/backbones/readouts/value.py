"""Values alone: what SCLIP and its successors compare with as MaskCLIP."""

from torch import Tensor

from openvocab.backbones.readouts.base import AttentionReadout
from openvocab.layers.clip_attention import Projections
from openvocab.registry import READOUTS
from openvocab.structures import Size


@READOUTS.register_module(name="value")
class Value(AttentionReadout):
    """Let every token keep its own value (identity attention), without residual and feed-forward half."""

    def mix(self, projections: Projections, grid_size: Size) -> Tensor:
        """Return v."""
        return projections[2]
