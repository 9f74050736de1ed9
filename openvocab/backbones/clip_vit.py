"""Features of CLIP's vision transformer at any image size."""

from collections.abc import Collection

import torch
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from openvocab.backbones.readouts import ForwardPass, Readout
from openvocab.layers.attention import attend
from openvocab.layers.clip_attention import finish_block, project_output, run_block
from openvocab.layers.positions import PositionResize, resize_positions
from openvocab.layers.token_maps import to_map
from openvocab.structures import BackboneSpec, ImageFeatures, Size, size_of


class VisionTransformerReader:
    """Computes pooled, dense and hidden features of open_clip's `VisionTransformer` without changing it.

    Args:
        visual: the tower; owned by the module that holds this reader.
        readout: how patch embeddings are computed.
        position_resize: see `resize_positions`.
        checkpointing: recompute the blocks in the backward pass.

    Raises:
        ValueError: the tower has no patch embeddings in the joint space (attentional pooler), has custom blocks, or
            does not suit the readout.
    """

    tail = ("ln_post", "proj")
    """Name prefixes of the parameters after the last block."""

    def __init__(
        self, visual: VisionTransformer, readout: Readout, position_resize: PositionResize, checkpointing: bool
    ) -> None:
        if visual.attn_pool is not None:
            raise ValueError(
                "this tower pools by learned queries (CoCa): its patches have no embeddings in the joint space"
            )
        if not all(isinstance(block, ResidualAttentionBlock) for block in visual.transformer.resblocks):
            raise ValueError(
                "this tower has custom attention blocks (qk_norm, scaled cosine); only plain ones are supported"
            )
        readout.check_tower(visual.transformer.width, len(visual.transformer.resblocks))
        self.visual = visual
        self.readout = readout
        self.position_resize = position_resize
        self.checkpointing = checkpointing

    @property
    def blocks(self) -> list[nn.Module]:
        """Blocks in order."""
        return list(self.visual.transformer.resblocks)

    def spec(self) -> BackboneSpec:
        """Return widths and strides; `hidden[0]` is the input of block 1, `hidden[i]` the output of block i."""
        patch = self.visual.patch_size
        if patch[0] != patch[1]:
            raise ValueError(f"expected square patches, got {patch[0]}x{patch[1]}")
        num_hidden = len(self.blocks) + 1
        return BackboneSpec(
            embed_dim=self.visual.proj.shape[1],
            stride=patch[0],
            hidden_dims=(self.visual.transformer.width,) * num_hidden,
            hidden_strides=(patch[0],) * num_hidden,
        )

    def __call__(self, images: Tensor, layers: Collection[int], embed: bool) -> ImageFeatures:
        """Encode (B, 3, H, W); see `Backbone.forward`."""
        tokens, grid_size = self._embed_patches(images)
        features = ImageFeatures(input_size=size_of(images))
        # With embeddings, the last block is left to _embed_last: many readouts replace its attention.
        body = self.blocks[:-1] if embed else self.blocks[: max(layers, default=0)]
        required = self.readout.reads(len(self.blocks)) if embed else ()
        states = {0: tokens} if 0 in required else {}
        _store(features, 0, tokens, grid_size, layers)
        for i, block in enumerate(body, start=1):
            tokens = self.readout.after_block(self._run(block, tokens), grid_size)
            if i in required:
                states[i] = tokens
            _store(features, i, tokens, grid_size, layers)
        if embed:
            self._embed_last(features, {**states, len(body): tokens}, grid_size, layers)
        return features

    def _embed_last(
        self, features: ImageFeatures, states: dict[int, Tensor], grid_size: Size, layers: Collection[int]
    ) -> None:
        """Run the last block, and add the embeddings of the image and of the patches.

        `states` are the required states (B, 1 + h * w, C) and the one that enters the last block.
        """
        count = len(self.blocks)
        tower = ForwardPass(self.blocks, states, grid_size)
        if count in layers or count in self.readout.reads(count) or self.visual.pool_type != "tok":
            states[count] = self.readout.after_block(self._run(self.blocks[-1], tower.entering), grid_size)
            _store(features, count, states[count], grid_size, layers)
            features.image_embed = self._project_pooled(states[count])
        else:  # only the class token of the last block is used, so the other tokens need not be computed
            features.image_embed = self._project_pooled(_class_token(tower))
        patches = self._project(self.readout.patches(tower))
        features.patch_embed = to_map(patches, self.readout.output_size(grid_size))  # (B, D, h, w)
        if self.readout.gives_keys:
            keys = project_output(self.blocks[-1].attn, tower.projections[1])  # (B, 1 + h * w, C)
            features.patch_keys = to_map(keys[:, 1:], grid_size)

    def _embed_patches(self, images: Tensor) -> tuple[Tensor, Size]:
        """Return the tokens (B, 1 + h * w, C) that enter block 1, and the grid (h, w)."""
        visual = self.visual
        patches = visual.conv1(images)  # (B, C, h, w)
        grid_size = size_of(patches)
        patches = patches.flatten(2).transpose(1, 2)  # (B, h * w, C)
        class_token = visual.class_embedding.to(patches.dtype).expand(len(patches), 1, -1)  # (B, 1, C)
        positions = resize_positions(visual.positional_embedding, visual.grid_size, grid_size, self.position_resize)
        # No patch dropout: every cell of the map needs its token.
        return visual.ln_pre(torch.cat([class_token, patches], dim=1) + positions.to(patches.dtype)), grid_size

    def _run(self, block: nn.Module, tokens: Tensor) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(run_block, block, tokens, use_reentrant=False)
        return run_block(block, tokens)

    def _project(self, tokens: Tensor) -> Tensor:
        """Project tokens (B, N, C) to the joint space, (B, N, D)."""
        return self.visual.ln_post(tokens) @ self.visual.proj

    def _project_pooled(self, tokens: Tensor) -> Tensor:
        """Pool tokens (B, N, C) as the tower does and project them to the joint space, (B, D)."""
        if self.visual.pool_type == "tok":
            return self._project(tokens[:, 0])
        # Other towers average the patches; the norm and the mean do not commute.
        if self.visual.final_ln_after_pool:
            return self._project(tokens[:, 1:].mean(dim=1))
        # The norm is per token, so it makes no difference that the class token is dropped after it.
        return self.visual.ln_post(tokens)[:, 1:].mean(dim=1) @ self.visual.proj


def _class_token(tower: ForwardPass) -> Tensor:
    """Return the output (B, 1, C) of the last block for the class token only."""
    q, k, v = tower.projections  # (B, heads, 1 + h * w, d) each
    # One query instead of 1 + h * w: the score matrix has one row.
    attended = project_output(tower.blocks[-1].attn, attend(q[:, :, :1], k, v))
    return finish_block(tower.blocks[-1], tower.entering[:, :1], attended)


def _store(features: ImageFeatures, i: int, tokens: Tensor, grid_size: Size, layers: Collection[int]) -> None:
    """Store tokens (B, 1 + h * w, C) as `hidden[i]` and `prefix[i]`, if i is among `layers`."""
    if i in layers:
        features.prefix[i] = tokens[:, :1]
        features.hidden[i] = to_map(tokens[:, 1:], grid_size)
