"""Features of a timm vision transformer at any image size."""

from collections.abc import Collection
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from openvocab.layers.positions import PositionResize, check_position_resize, resize_positions
from openvocab.layers.token_maps import to_map
from openvocab.structures import BackboneSpec, ImageFeatures, Size, size_of


def without_classifier(tower: VisionTransformer) -> VisionTransformer:
    """Remove the layers after the last block in place, so that every remaining parameter is used."""
    tower.reset_classifier(0)
    tower.norm, tower.fc_norm = nn.Identity(), nn.Identity()
    tower.attn_pool = None  # type: ignore[assignment]  # None is what timm itself sets without a pool
    return tower


class TokenReader:
    """Computes the residual stream and the class token after any block, without changing the tower.

    Args:
        visual: a plain or hybrid `VisionTransformer` built with `dynamic_img_size=True`; owned by the module that
            holds this reader.
        position_resize: see `resize_positions`.
        checkpointing: recompute the blocks in the backward pass.
    """

    def __init__(self, visual: VisionTransformer, position_resize: PositionResize, checkpointing: bool) -> None:
        check_position_resize(position_resize)
        self.visual = visual
        self.position_resize = position_resize
        self.checkpointing = checkpointing

    @property
    def blocks(self) -> list[nn.Module]:
        """Blocks in order."""
        return list(self.visual.blocks)

    def spec(self) -> BackboneSpec:
        """Return widths and strides; `hidden[0]` is the input of block 1, `hidden[i]` the output of block i."""
        num_hidden = len(self.visual.blocks) + 1
        stride = self.visual.patch_embed.feat_ratio(as_scalar=True)
        return BackboneSpec(None, stride, (self.visual.embed_dim,) * num_hidden, (stride,) * num_hidden)

    def __call__(self, images: Tensor, layers: Collection[int]) -> ImageFeatures:
        """Encode (B, 3, H, W) up to the deepest of `layers`; see `Backbone.forward`."""
        features = ImageFeatures(input_size=size_of(images))
        patches = self.visual.patch_embed(images)  # (B, h, w, C)
        grid_size = (patches.shape[1], patches.shape[2])
        tokens = add_positions(self.visual, patches, self.position_resize)
        for i in range(max(layers, default=0) + 1):
            if i > 0:
                tokens = self._run(self.visual.blocks[i - 1], tokens)
            if i in layers:
                self._store(features, i, tokens, grid_size)
        return features

    def _run(self, block: nn.Module, tokens: Tensor) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(block, tokens, use_reentrant=False)
        return block(tokens)

    def _store(self, features: ImageFeatures, layer: int, tokens: Tensor, grid_size: Size) -> None:
        """Store tokens (B, P + h * w, C) as `hidden[layer]` and `prefix[layer]`."""
        count = self.visual.num_prefix_tokens
        features.hidden[layer] = to_map(tokens[:, count:], grid_size)  # (B, C, h, w)
        if count:
            features.prefix[layer] = tokens[:, :count]


def add_positions(tower: Any, patches: Tensor, position_resize: PositionResize) -> Tensor:
    """Add the prefix tokens and the learned positions of a tower, as timm does, for any size.

    Args:
        tower: a vision transformer of timm, plain or EVA's.
        patches: (B, h, w, C).
        position_resize: see `resize_positions`.

    Returns:
        (B, P + h * w, C), the input of the first block.
    """
    batch, height, width, _ = patches.shape
    tokens = patches.flatten(1, 2)  # (B, h * w, C)
    prefix = [token.expand(batch, -1, -1) for token in (tower.cls_token, tower.reg_token) if token is not None]
    if tower.pos_embed is None:
        return tower.norm_pre(torch.cat([*prefix, tokens], dim=1))
    grid_size = tower.patch_embed.grid_size
    positions = resize_positions(tower.pos_embed[0], grid_size, (height, width), position_resize)
    # Some models (DINOv2 with registers) store positions for the patches only, not for the prefix tokens.
    if tower.no_embed_class:
        tokens = torch.cat([*prefix, tokens + positions], dim=1)
    else:
        tokens = torch.cat([*prefix, tokens], dim=1) + positions
    return tower.norm_pre(tower.pos_drop(tokens))
