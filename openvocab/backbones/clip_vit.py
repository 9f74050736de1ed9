"""Features of open_clip's own vision transformer, CLIP's and CoCa's."""

import torch
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn

from openvocab.backbones.readouts import Readout
from openvocab.backbones.transformer_reader import TransformerReader
from openvocab.layers.attention_block import CLIPBlock
from openvocab.layers.attention_pool import QueryPool
from openvocab.layers.positions import PositionResize, resize_positions
from openvocab.structures import Size, size_of


class VisionTransformerReader(TransformerReader):
    """Computes pooled, dense and hidden features of open_clip's `VisionTransformer` without changing it.

    Args:
        visual: the tower; owned by the module that holds this reader.
        readout: how patch embeddings are computed.
        position_resize: see `resize_positions`.
        checkpointing: recompute the blocks in the backward pass.

    Raises:
        ValueError: the tower has custom blocks, two attention pools or patches that are not square, or does not suit
            the readout.
    """

    tail = ("ln_post", "proj", "attn_pool")

    def __init__(
        self, visual: VisionTransformer, readout: Readout, position_resize: PositionResize, checkpointing: bool
    ) -> None:
        if not all(isinstance(block, ResidualAttentionBlock) for block in visual.transformer.resblocks):
            raise ValueError(
                "this tower has custom attention blocks (qk_norm, scaled cosine); only plain ones are supported"
            )
        if visual.attn_pool is not None and visual.attn_pool_contrastive is not None:
            raise ValueError("this tower has two attention pools (CoCa's parallel or cascade); one is supported")
        if visual.patch_size[0] != visual.patch_size[1]:
            raise ValueError(f"expected square patches, got {visual.patch_size[0]}x{visual.patch_size[1]}")
        super().__init__(visual, visual.transformer.width, 1, readout, position_resize, checkpointing)
        self.pool = None if visual.attn_pool is None else QueryPool(visual)
        self.pools_class_token = self.pool is None and visual.pool_type == "tok"

    @property
    def blocks(self) -> list[nn.Module]:
        """Blocks in order."""
        return list(self.visual.transformer.resblocks)

    def views(self, grid_size: Size) -> list[CLIPBlock]:
        """See `TransformerReader.views`."""
        return [CLIPBlock(block) for block in self.visual.transformer.resblocks]

    def stride(self) -> int:
        """Return the side of a patch in pixels."""
        return self.visual.patch_size[0]

    def embed_dim(self) -> int:
        """Return D, the width of the joint space."""
        return self.visual.proj.shape[1]

    def embed_patches(self, images: Tensor) -> tuple[Tensor, Size]:
        """Return the tokens (B, 1 + h * w, C) that enter block 1, and the grid; see `TransformerReader`."""
        visual = self.visual
        patches = visual.conv1(images)  # (B, C, h, w)
        grid_size = size_of(patches)
        patches = patches.flatten(2).transpose(1, 2)  # (B, h * w, C)
        class_token = visual.class_embedding.to(patches.dtype).expand(len(patches), 1, -1)  # (B, 1, C)
        positions = resize_positions(visual.positional_embedding, visual.grid_size, grid_size, self.position_resize)
        # No patch dropout: every cell of the map needs its token.
        return visual.ln_pre(torch.cat([class_token, patches], dim=1) + positions.to(patches.dtype)), grid_size

    def project(self, tokens: Tensor) -> Tensor:
        """Project tokens (B, N, C) one by one, (B, N, D); see `TransformerReader.project`."""
        return self.visual.ln_post(tokens) @ self.visual.proj if self.pool is None else self.pool.alone(tokens)

    def project_pooled(self, tokens: Tensor) -> Tensor:
        """Pool tokens (B, N, C) as the tower does and project them, (B, D)."""
        if self.pool is not None:
            return self.pool.pooled(tokens)
        if self.visual.pool_type == "tok":
            return self.project(tokens[:, 0])
        # Other towers average the patches; the norm and the mean do not commute.
        if self.visual.final_ln_after_pool:
            return self.project(tokens[:, 1:].mean(dim=1))
        # The norm is per token, so it makes no difference that the class token is dropped after it.
        return self.visual.ln_post(tokens)[:, 1:].mean(dim=1) @ self.visual.proj
