"""CLIP's own last block."""

from collections.abc import Collection

from torch import Tensor

from openvocab.backbones.readouts.base import AttentionReadout, ForwardPass
from openvocab.layers.attention import attend
from openvocab.layers.clip_attention import Projections
from openvocab.registry import READOUTS
from openvocab.structures import Size


@READOUTS.register_module(name="clip")
class Plain(AttentionReadout):
    """The unchanged tower: softmax(s q kT) v, with residual connections and feed-forward network."""

    position_resize = "bicubic"

    def reads(self, num_blocks: int) -> Collection[int]:
        """Require the output of the last block."""
        return (num_blocks,)

    def mix(self, projections: Projections, grid_size: Size) -> Tensor:
        """Average the values (B, heads, N, d) by the tower's own attention; see `AttentionReadout.mix`."""
        return attend(*projections)

    def patches(self, tower: ForwardPass) -> Tensor:
        """Return the patches (B, h * w, C) of the last block's output; see `Readout.patches`."""
        return tower.patches_of(tower.states[len(tower.blocks)])
