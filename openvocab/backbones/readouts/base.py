"""The contract of a dense readout: how patch embeddings are read from a CLIP tower that was trained on its class token.

CLIP's last attention spreads the meaning of the patches over the image. A readout is a small pure object, without
weights of its own, that says which tokens stand for the patches instead, before the tower's last norm and projection.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor

from openvocab.layers.clip_attention import Projections, finish_block, project_output, project_qkv
from openvocab.layers.positions import PositionResize
from openvocab.registry import READOUTS, build_part
from openvocab.structures import Size


@dataclass
class ForwardPass:
    """What a readout may know of a vision transformer and of what it made of a batch. Token 0 is the class token."""

    blocks: Sequence[ResidualAttentionBlock]
    states: Mapping[int, Tensor]
    """{i: (B, 1 + h * w, C)} tokens that enter block 1 (i = 0) or leave block i: those the readout asked for, and
    those that enter the last block."""
    grid_size: Size

    @property
    def entering(self) -> Tensor:
        """(B, 1 + h * w, C), the tokens that enter the last block."""
        return self.states[len(self.blocks) - 1]

    @cached_property
    def projections(self) -> Projections:
        """q, k and v of the last block, (B, heads, 1 + h * w, d) each."""
        last = self.blocks[-1]
        return project_qkv(last.attn, last.ln_1(self.entering))


class Readout:
    """How patch embeddings are read from a vision transformer."""

    position_resize: PositionResize = "bicubic_offset"
    """How the published code resamples position embeddings."""
    gives_keys: bool = False
    """Whether the keys of the last attention are read too (`ImageFeatures.patch_keys`)."""

    def check_tower(self, width: int, num_blocks: int) -> None:
        """Raise `ValueError` for a vision transformer that this cannot read."""

    def reads(self, num_blocks: int) -> Collection[int]:
        """Return which `ForwardPass.states` of a tower of so many blocks are read."""
        return ()

    def after_block(self, tokens: Tensor, grid_size: Size) -> Tensor:
        """Return the tokens (B, 1 + h * w, C) that stand for those a block has made, for whatever reads them next."""
        return tokens

    def output_size(self, grid_size: Size) -> Size:
        """Return the grid that `patches` lie on, for a tower with patches on `grid_size`."""
        return grid_size

    def patches(self, tower: ForwardPass) -> Tensor:
        """Return the tokens of the patches (B, h * w, C) before the tower's last norm and projection."""
        raise NotImplementedError


class AttentionReadout(Readout):
    """A readout that changes nothing but the attention matrix of the last block; the pool of a ResNet has one too."""

    whole_block: bool = False
    """Whether the block's residual and feed-forward half stay. The pool of a ResNet has neither."""
    pool_positions: bool = True
    """Whether the places of a ResNet's pool keep their position embeddings, which the values it averages contain."""

    def mix(self, projections: Projections, grid_size: Size) -> Tensor:
        """Return the mixed values (B, heads, N, d) of q, k and v, each (B, heads, N, d); N = prefix + h * w."""
        raise NotImplementedError

    def patches(self, tower: ForwardPass) -> Tensor:
        """See `Readout.patches`."""
        last = tower.blocks[-1]
        tokens = project_output(last.attn, self.mix(tower.projections, tower.grid_size))
        if self.whole_block:
            tokens = finish_block(last, tower.entering, tokens)
        return tokens[:, 1:]


def build_readout(readout: str | Mapping[str, Any] | Readout) -> Readout:
    """Return a readout by its name, by a config (`dict(type="rfclip", sink_channels=(...))`), or as it is.

    Raises:
        ValueError: an unknown name; the message lists the known ones.
        TypeError: something else.
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
