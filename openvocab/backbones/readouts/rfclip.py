"""RF-CLIP: attention sinks damped after every block, and the key-key attention of all blocks."""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from openvocab.backbones.readouts.base import ForwardPass, Readout
from openvocab.backbones.readouts.similarity import attention_weights, cosines, keep_similar, neighbor_sum
from openvocab.layers.attention_block import AttentionBlock
from openvocab.registry import READOUTS
from openvocab.structures import Size

SINK_CHANNELS = {
    768: (4, 162, 189, 326, 429, 474, 633, 713),
    1024: (250, 261, 437, 650, 720, 779, 936, 1005),
}
"""{width: channels} of OpenAI's ViT-B/16 and ViT-L/14; an attention sink is a patch that is large in one of them."""
SINK_SIZE = 5.0
"""A channel is large if it exceeds this factor times the mean over the channels."""
SINK_FRACTION = 0.6
"""Weight of a sink's own features; the rest comes from its neighborhood."""


@READOUTS.register_module(name="rfclip")
class RFCLIP(Readout):
    """Patches that draw attention regardless of content (sinks) are averaged with their neighbors after every block.

    This changes `image_embed` and `hidden` too. Patch tokens are the output of the last attention with the mean
    key-key attention of all blocks as weights, averaged over two inputs: the last block's own, and the mean output of
    all blocks, both averaged over similar patches first. No residual connection, no feed-forward network. The paper's
    central step, moving attention away from sinks inside the blocks, is disabled in the official code and omitted here.

    Args:
        sink_channels: the channels that identify sinks; they depend on the weights. Default: the published ones of
            OpenAI's ViT-B/16 (width 768) and ViT-L/14 (width 1024).

    Reference: the code of RF-CLIP, commit c2b333e6.
    """

    needs_class_token = True

    def __init__(self, sink_channels: Sequence[int] | None = None) -> None:
        self.sink_channels = None if sink_channels is None else tuple(sink_channels)

    def check_tower(self, width: int, num_blocks: int) -> None:
        """See `Readout.check_tower`."""
        self.channels(width)

    def reads(self, num_blocks: int) -> Collection[int]:
        """Require the input of block 1 and the outputs of all blocks."""
        return range(num_blocks + 1)

    def after_block(self, tokens: Tensor, grid_size: Size) -> Tensor:
        """Average the sinks among tokens (B, 1 + h * w, C) with their 3 x 3 neighborhood, zero-padded: same shape."""
        patches = tokens[:, 1:]
        # Divided by 9 at the border too, where fewer patches are summed: the padding counts as zeros.
        mean = neighbor_sum(patches, grid_size) / 9
        damped = torch.where(
            self.sinks(patches)[..., None], SINK_FRACTION * patches + (1 - SINK_FRACTION) * mean, patches
        )
        return torch.cat([tokens[:, :1], damped], dim=1)

    def sinks(self, patches: Tensor) -> Tensor:
        """Return which of the patches (B, N, C) are sinks, (B, N) bool."""
        # Shifted to a least value of 0, so that no fraction is negative and those of a patch sum to one.
        positive = patches.float() - patches.float().amin(-1, keepdim=True)
        fraction = positive / positive.sum(-1, keepdim=True).clamp(min=1e-8)  # the mean fraction is 1 / C
        return fraction[..., list(self.channels(patches.shape[-1]))].amax(-1) > SINK_SIZE / patches.shape[-1]

    def channels(self, width: int) -> Sequence[int]:
        """Return the channels that identify sinks in a tower of this width.

        Raises:
            ValueError: none are published for it, or a given channel does not exist.
        """
        channels = SINK_CHANNELS.get(width) if self.sink_channels is None else self.sink_channels
        if not channels or not 0 <= min(channels) <= max(channels) < width:
            raise ValueError(
                f"rfclip: a tower of width {width} needs its own sink_channels, below {width} (published: OpenAI's "
                f"ViT-B/16 and ViT-L/14), got {self.sink_channels}"
            )
        return channels

    def patches(self, tower: ForwardPass) -> Tensor:
        """Return the mean (B, h * w, C) of the attention over both inputs; see `Readout.patches`."""
        outputs = [tower.states[i] for i in range(1, len(tower.blocks) + 1)]
        mean = sum(outputs, start=outputs[0].new_zeros(())) / len(outputs)  # (B, 1 + N, C)
        similarity = keep_similar(cosines(mean[:, 1:])).to(mean.dtype)  # (B, N, N)
        # The blocks before the last are the same for both inputs, so their weights are summed once.
        earlier = sum(_key_weights(block, tower.states[i]) for i, block in enumerate(tower.blocks[:-1]))
        first, second = (_attend(tower, _sum_similar(tokens, similarity), earlier) for tokens in (tower.entering, mean))
        return (first + second) / 2


def _sum_similar(tokens: Tensor, similarity: Tensor) -> Tensor:
    """Replace each patch by the sum of similar ones, weighted by `similarity` (B, N, N); the class token stays."""
    return torch.cat([tokens[:, :1], similarity @ tokens[:, 1:]], dim=1)  # (B, 1 + N, C)


def _attend(tower: ForwardPass, tokens: Tensor, earlier: Tensor | int) -> Tensor:
    """Run the last attention on tokens (B, 1 + N, C) with the mean key-key attention of all blocks, (B, N, C).

    `earlier` is the sum (B, heads, N, N) over the blocks before the last; 0 if there are none.
    """
    last = tower.blocks[-1]
    v = last.projections(tokens)[2][:, :, 1:]  # (B, heads, N, d)
    weights = (earlier + _key_weights(last, tokens)) / len(tower.blocks)
    return last.output(weights.to(v.dtype) @ v)


def _key_weights(block: AttentionBlock, tokens: Tensor) -> Tensor:
    """Return softmax(s k kT) over all tokens (B, 1 + N, C), cropped to the patches, (B, heads, N, N) float32."""
    # The softmax includes the class token and is cropped afterwards: rows of patches sum to less than one.
    k = block.projections(tokens)[1]
    return attention_weights(k, k)[:, :, 1:, 1:]
