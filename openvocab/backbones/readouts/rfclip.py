"""RF-CLIP: sinks damped after every block, key-key attention of all blocks."""

from collections.abc import Collection, Sequence

import torch
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor

from openvocab.backbones.readouts.base import ForwardPass, Readout
from openvocab.backbones.readouts.similarity import alike, attention_weights, cosines, neighbor_sum
from openvocab.layers.clip_attention import project_output, project_qkv
from openvocab.registry import READOUTS
from openvocab.structures import Size

SINK_CHANNELS = {
    768: (4, 162, 189, 326, 429, 474, 633, 713),
    1024: (250, 261, 437, 650, 720, 779, 936, 1005),
}
"""By width of the tower: in OpenAI's ViT-B/16 and ViT-L/14 a patch that has become a sink is large in one of these."""
SINK_SIZE = 5.0
"""From how many times the mean over channels on."""
KEPT = 0.6
"""Share of a sink that stays; the rest comes from its neighborhood."""


@READOUTS.register_module(name="rfclip")
class RFCLIP(Readout):
    """Patches that gather attention without meaning (sinks) are mixed with their neighbors after every block.

    `image_embed` and `hidden` are then those of the damped tower. The patches are read from the last attention, with
    the mean of the key-key attention of all blocks as its weights, on two inputs: what enters it, and the mean of all
    blocks, both averaged over alike patches. No residual, no feed-forward half. The published code leaves its central
    step, attention moved away from sinks inside the blocks, switched off; so does this.

    Args:
        sink_channels: by which sinks are known; they belong to the weights. Default: those published for OpenAI's
            ViT-B/16 (width 768) and ViT-L/14 (width 1024).

    Reference: the code of RF-CLIP, commit c2b333e6.
    """

    def __init__(self, sink_channels: Sequence[int] | None = None) -> None:
        self.sink_channels = None if sink_channels is None else tuple(sink_channels)

    def check_tower(self, width: int, num_blocks: int) -> None:
        """See `Readout.check_tower`."""
        self.channels(width)

    def reads(self, num_blocks: int) -> Collection[int]:
        """Read all blocks and what enters them."""
        return range(num_blocks + 1)

    def after_block(self, tokens: Tensor, grid_size: Size) -> Tensor:
        """Mix sinks with their 3 x 3 neighborhood, themselves included, zeros outside the map."""
        patches = tokens[:, 1:]
        mean = neighbor_sum(patches, grid_size) / 9
        damped = torch.where(self.sinks(patches)[..., None], KEPT * patches + (1 - KEPT) * mean, patches)
        return torch.cat([tokens[:, :1], damped], dim=1)

    def sinks(self, patches: Tensor) -> Tensor:
        """Return which patches (B, N, C) are sinks, (B, N) bool."""
        raised = patches.float() - patches.float().amin(-1, keepdim=True)
        share = raised / raised.sum(-1, keepdim=True).clamp(min=1e-8)
        return share[..., list(self.channels(patches.shape[-1]))].amax(-1) > SINK_SIZE / patches.shape[-1]

    def channels(self, width: int) -> Sequence[int]:
        """Return the channels that sinks are known by, in a tower of this width.

        Raises:
            ValueError: none are known, or a given one does not exist.
        """
        channels = SINK_CHANNELS.get(width) if self.sink_channels is None else self.sink_channels
        if not channels or not 0 <= min(channels) <= max(channels) < width:
            raise ValueError(
                f"rfclip: a tower of width {width} needs sink_channels of its own, below {width} (known: OpenAI's "
                f"ViT-B/16 and ViT-L/14), got {self.sink_channels}"
            )
        return channels

    def patches(self, tower: ForwardPass) -> Tensor:
        """See `Readout.patches`."""
        outputs = [tower.states[i] for i in range(1, len(tower.blocks) + 1)]
        guide = sum(outputs) / len(outputs)
        weights = alike(cosines(guide[:, 1:])).to(guide.dtype)  # (B, N, N)
        earlier = sum(_key_weights(block, tower.states[i]) for i, block in enumerate(tower.blocks[:-1]))
        read = [_attended(tower, _regrouped(tokens, weights), earlier) for tokens in (tower.entering, guide)]
        return sum(read) / 2


def _regrouped(tokens: Tensor, weights: Tensor) -> Tensor:
    """Return the tokens with each patch the sum of those alike; the class token stays."""
    return torch.cat([tokens[:, :1], weights @ tokens[:, 1:]], dim=1)


def _attended(tower: ForwardPass, tokens: Tensor, earlier: Tensor) -> Tensor:
    """Run the last attention with the mean of its own and the `earlier` blocks' key-key attention (B, heads, N, N)."""
    last = tower.blocks[-1]
    v = project_qkv(last.attn, last.ln_1(tokens))[2][:, :, 1:]
    weights = (earlier + _key_weights(last, tokens)) / len(tower.blocks)
    return project_output(last.attn, weights.to(v.dtype) @ v)


def _key_weights(block: ResidualAttentionBlock, tokens: Tensor) -> Tensor:
    """Return softmax(s k kT) over all tokens (B, 1 + N, C), cut down to the patches, (B, heads, N, N) float32."""
    k = project_qkv(block.attn, block.ln_1(tokens))[1]
    return attention_weights(k, k)[:, :, 1:, 1:]
