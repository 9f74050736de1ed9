"""Features of the vision transformers that open_clip builds with timm: SigLIP, PE, EVA, ViTamin, MobileCLIP-B."""

import copy
from typing import Any

from open_clip.timm_model import TimmModel
from torch import Tensor, nn

from openvocab.backbones.readouts import RFCLIP, Readout
from openvocab.backbones.timm_vit import add_positions
from openvocab.backbones.transformer_reader import TransformerReader
from openvocab.layers.attention_block import TimmBlock, check_timm_blocks
from openvocab.layers.attention_pool import LatentPool
from openvocab.layers.positions import PositionResize
from openvocab.structures import Size, size_of


class TimmTransformerReader(TransformerReader):
    """Computes pooled, dense and hidden features of a vision transformer of timm with open_clip's head.

    The tower pools its class token, the mean of its patches, or all tokens by a learned query (SigLIP, PE). Positions
    are learned, rotary (PE, EVA02), or those of a convolutional stem. Of the tower, only the check of the image size is
    turned off.

    Args:
        visual: the tower; owned by the module that holds this reader.
        readout: how patch embeddings are computed.
        position_resize: see `resize_positions`; rotary positions are computed for any size.
        checkpointing: recompute the blocks in the backward pass.

    Raises:
        ValueError: the tower has blocks or a pool without a reader, or does not suit the readout.
    """

    tail = ("trunk.norm.", "trunk.fc_norm.", "trunk.attn_pool.", "trunk.head.", "head.")

    def __init__(
        self, visual: TimmModel, readout: Readout, position_resize: PositionResize, checkpointing: bool
    ) -> None:
        trunk = visual.trunk
        check_timm_blocks(trunk.blocks)
        super().__init__(visual, trunk.embed_dim, trunk.num_prefix_tokens, readout, position_resize, checkpointing)
        if isinstance(readout, RFCLIP) and readout.sink_channels is None:
            raise ValueError("rfclip: sink_channels are published for OpenAI's towers only; give those of this one")
        self.pools_class_token = trunk.attn_pool is None and trunk.global_pool == "token"
        self.pools_prefix = getattr(trunk, "pool_include_prefix", True) if trunk.attn_pool is not None else False
        if trunk.attn_pool is None and trunk.global_pool not in ("token", "avg"):
            raise ValueError(f"this tower pools by {trunk.global_pool!r}, which has no reader")
        self.pool = self._attention_pool()
        trunk.patch_embed.strict_img_size = False

    @property
    def blocks(self) -> list[nn.Module]:
        """Blocks in order."""
        return list(self.visual.trunk.blocks)

    def views(self, grid_size: Size) -> list[TimmBlock]:
        """See `TransformerReader.views`; rotary positions are those of the grid, per block if they are learned."""
        trunk = self.visual.trunk
        if getattr(trunk, "rope", None) is None:
            return [TimmBlock(block) for block in trunk.blocks]
        embedding = rotary_embedding(trunk.rope, grid_size)  # (h * w, 2 d), or (blocks, heads, h * w, 2 d)
        by_block = embedding if trunk.rope_mixed else [embedding] * len(trunk.blocks)
        return [TimmBlock(block, of_block) for block, of_block in zip(trunk.blocks, by_block)]

    def stride(self) -> int:
        """Return the side of a patch in pixels."""
        return self.visual.trunk.patch_embed.feat_ratio(as_scalar=True)

    def embed_dim(self) -> int:
        """Return D, the width of the joint space."""
        linear = [
            part
            for part in (*self.visual.trunk.head.modules(), *self.visual.head.modules())
            if isinstance(part, nn.Linear)
        ]
        return linear[-1].out_features if linear else self.visual.trunk.num_features

    def embed_patches(self, images: Tensor) -> tuple[Tensor, Size]:
        """Return the tokens (B, P + h * w, C) that enter block 1, and the grid; see `TransformerReader`."""
        trunk, stride = self.visual.trunk, self.stride()
        height, width = size_of(images)
        grid_size = (height // stride, width // stride)
        patches = trunk.patch_embed(images).unflatten(1, grid_size)  # (B, h, w, C)
        # No patch dropout: every cell of the map needs its token.
        return add_positions(trunk, patches, self.position_resize), grid_size

    def project(self, tokens: Tensor) -> Tensor:
        """Project tokens (B, N, C) one by one, (B, N, D); see `TransformerReader.project`."""
        tokens = self.visual.trunk.norm(tokens)
        return self._head(tokens) if self.pool is None else self.pool.alone(tokens)

    def project_pooled(self, tokens: Tensor) -> Tensor:
        """Pool tokens (B, P + h * w, C) as the tower does and project them, (B, D)."""
        tokens = self.pool_input(tokens)
        if self.pool is not None:
            return self.pool.pooled(tokens)
        return self._head(tokens[:, 0] if self.pools_class_token else tokens.mean(dim=1))

    def pool_input(self, tokens: Tensor) -> Tensor:
        """Return what is pooled of the last block's tokens, after the norm; see `TransformerReader.pool_input`."""
        takes_all = self.pools_class_token or self.pools_prefix
        return self.visual.trunk.norm(tokens if takes_all else tokens[:, self.num_prefix :])

    def _head(self, pooled: Tensor) -> Tensor:
        """Project what is pooled, (..., C), to the joint space, (..., D)."""
        trunk = self.visual.trunk
        return self.visual.head(trunk.head(trunk.head_drop(trunk.fc_norm(pooled))))

    def _attention_pool(self) -> LatentPool | None:
        trunk = self.visual.trunk
        if trunk.attn_pool is None:
            return None
        if not isinstance(trunk.fc_norm, nn.Identity) or "mlp" in dict(self.visual.head.named_children()):
            raise ValueError("this tower has layers after its attention pool that are not linear, which has no reader")
        return LatentPool(trunk.attn_pool, nn.Sequential(trunk.head_drop, trunk.head, self.visual.head))


def rotary_embedding(rope: Any, grid_size: Size) -> Tensor:
    """Return timm's rotary embedding of a grid (h, w): (h * w, 2 d), or, if learned, (blocks, heads, h * w, 2 d)."""
    if any(True for _ in rope.parameters()):
        return rope.get_embed(shape=grid_size)
    if tuple(rope.feat_shape or ()) == tuple(grid_size):
        return rope.get_embed()
    # A module for images of one size returns what it has stored, whatever grid it is asked for, until it is updated;
    # a copy is, since several threads may use the tower.
    of_grid = copy.deepcopy(rope)
    of_grid.update_feat_shape(grid_size)
    return of_grid.get_embed()
