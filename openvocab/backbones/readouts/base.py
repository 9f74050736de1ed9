"""Base classes of dense readouts: computing patch embeddings with a CLIP tower that was trained on its class token.

CLIP's last attention mixes information across the whole image, so its patch tokens are poorly localized. A readout is
a small object without weights and state that computes better patch tokens, before the tower's last norm and projection.
"""

from collections.abc import Collection, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

from openvocab.layers.attention_block import AttentionBlock
from openvocab.layers.clip_attention import Projections
from openvocab.layers.positions import PositionResize
from openvocab.registry import READOUTS, build_part
from openvocab.structures import Size


@dataclass
class ForwardPass:
    """A vision transformer and its states for a batch. The P prefix tokens come first: a class token, or none."""

    blocks: Sequence[AttentionBlock]
    states: MutableMapping[int, Tensor]
    """{i: (B, P + h * w, C)} input of block 1 (i = 0) or output of block i, for the i of `Readout.reads` and the input
    of the last block."""
    grid_size: Size
    """(h, w) of the patches."""

    @property
    def entering(self) -> Tensor:
        """(B, P + h * w, C) tokens that enter the last block."""
        return self.states[len(self.blocks) - 1]

    @cached_property
    def projections(self) -> Projections:
        """q, k and v of the last block, (B, heads, P + h * w, d) each."""
        return self.blocks[-1].projections(self.entering)

    def patches_of(self, tokens: Tensor) -> Tensor:
        """Return the last h * w of tokens (B, P + h * w, ...): those of the patches."""
        height, width = self.grid_size
        return tokens[:, -height * width :]


class Readout:
    """How patch embeddings are computed with a vision transformer."""

    position_resize: PositionResize = "bicubic_offset"
    """How the official code resamples position embeddings."""
    gives_keys: bool = False
    """Whether the keys of the last attention are also returned (`ImageFeatures.patch_keys`)."""
    needs_class_token: bool = False
    """Whether it computes with the class token, which towers that pool by attention may not have (SigLIP)."""

    def check_tower(self, width: int, num_blocks: int) -> None:
        """Raise `ValueError` for a vision transformer of a width and depth that this readout does not support."""

    def reads(self, num_blocks: int) -> Collection[int]:
        """Return the indices of the `ForwardPass.states` that are needed from a tower with `num_blocks` blocks."""
        return ()

    def after_block(self, tokens: Tensor, grid_size: Size) -> Tensor:
        """Return the tokens that replace the output (B, P + h * w, C) of a block, in the same shape."""
        return tokens

    def output_size(self, grid_size: Size) -> Size:
        """Return the (h, w) of the output of `patches`, for a tower with patches on `grid_size`."""
        return grid_size

    def patches(self, tower: ForwardPass) -> Tensor:
        """Return the patch tokens (B, h * w, C) before the tower's last norm and projection."""
        raise NotImplementedError


class AttentionReadout(Readout):
    """A readout that only changes the attention matrix of the last block, or of the attention pool of a ResNet."""

    whole_block: bool = False
    """Whether the block's residual connections and feed-forward network are applied. The pool of a ResNet has
    neither."""
    pool_positions: bool = True
    """Whether the cells in a ResNet's pool keep their position embeddings, which the averaged values contain too."""

    def mix(self, projections: Projections, grid_size: Size) -> Tensor:
        """Return the mixed values (B, heads, N, d) for q, k and v of (B, heads, N, d) each, where N = P + h * w."""
        raise NotImplementedError

    def patches(self, tower: ForwardPass) -> Tensor:
        """Return the mixed values (B, h * w, C) after the output projection; see `Readout.patches`."""
        last = tower.blocks[-1]
        tokens = last.output(self.mix(tower.projections, tower.grid_size))  # (B, P + h * w, C)
        if self.whole_block:
            tokens = last.finish(tower.entering, tokens)
        return tower.patches_of(tokens)


def build_readout(readout: str | Mapping[str, Any] | Readout) -> Readout:
    """Build a readout from its name or a config (`dict(type="rfclip", sink_channels=(...))`); return a built one as is.

    Raises:
        ValueError: the name is unknown; the message lists the known ones.
        TypeError: the argument is none of these.
    """
    if isinstance(readout, str):
        readout = {"type": readout}
    name = readout.get("type") if isinstance(readout, Mapping) else None
    if isinstance(name, str) and name not in known_readouts():
        raise ValueError(f"unknown readout {name!r}; known: {', '.join(known_readouts())}")
    built = build_part(READOUTS, readout)
    if not isinstance(built, Readout):
        raise TypeError(f"readout: expected a name, a dict with a type, or a Readout, got {readout!r}")
    return built


def known_readouts() -> tuple[str, ...]:
    """Return the names of all readouts, in alphabetical order."""
    READOUTS.import_from_location()
    return tuple(sorted(READOUTS.module_dict))
