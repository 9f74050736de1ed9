"""Reading the blocks of a timm vision transformer at any image size."""

from collections.abc import Collection

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from openvocab.layers.positions import check_position_resize, resize_positions
from openvocab.layers.token_maps import to_map
from openvocab.structures import BackboneSpec, ImageFeatures, Size


def without_classifier(tower: VisionTransformer) -> VisionTransformer:
    """Remove what follows the last block, so that every parameter left has a use."""
    tower.reset_classifier(0)
    tower.norm, tower.fc_norm, tower.attn_pool = nn.Identity(), nn.Identity(), None
    return tower


class TokenReader:
    """Reads the residual stream and the class token after any block, without changing the tower.

    Args:
        visual: a plain or hybrid `VisionTransformer` built with `dynamic_img_size=True`; the module that holds this
            reader owns it.
        position_resize: "bilinear" or "bicubic".
        checkpointing: recompute the blocks in the backward pass.
    """

    def __init__(self, visual: VisionTransformer, position_resize: str, checkpointing: bool) -> None:
        check_position_resize(position_resize)
        self.visual = visual
        self.position_resize = position_resize
        self.checkpointing = checkpointing

    @property
    def blocks(self) -> list[nn.Module]:
        """Blocks in order."""
        return list(self.visual.blocks)

    def spec(self) -> BackboneSpec:
        """Return the facts that heads read."""
        places = len(self.visual.blocks) + 1
        stride = self.visual.patch_embed.feat_ratio(as_scalar=True)
        return BackboneSpec(None, stride, (self.visual.embed_dim,) * places, (stride,) * places)

    def __call__(self, images: Tensor, layers: Collection[int]) -> ImageFeatures:
        """Encode (B, 3, H, W) up to the deepest of `layers`; see `Backbone.forward`."""
        features = ImageFeatures(input_size=tuple(images.shape[-2:]))
        patches = self.visual.patch_embed(images)  # (B, h, w, C)
        grid = tuple(patches.shape[1:3])
        tokens = self._enter(patches)
        for i in range(max(layers, default=0) + 1):
            if i > 0:
                tokens = self._run(self.visual.blocks[i - 1], tokens)
            if i in layers:
                self._keep(features, i, tokens, grid)
        return features

    def _enter(self, patches: Tensor) -> Tensor:
        """Prepend class and register tokens and add positions, (B, P + h * w, C)."""
        visual = self.visual
        batch, *grid, _ = patches.shape
        tokens = patches.flatten(1, 2)
        prefix = [token.expand(batch, -1, -1) for token in (visual.cls_token, visual.reg_token) if token is not None]
        if visual.pos_embed is None:
            return visual.norm_pre(torch.cat([*prefix, tokens], dim=1))
        positions = resize_positions(
            visual.pos_embed[0], visual.patch_embed.grid_size, tuple(grid), self.position_resize
        )
        if visual.no_embed_class:
            tokens = torch.cat([*prefix, tokens + positions], dim=1)
        else:
            tokens = torch.cat([*prefix, tokens], dim=1) + positions
        return visual.norm_pre(visual.pos_drop(tokens))

    def _run(self, block: nn.Module, tokens: Tensor) -> Tensor:
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(block, tokens, use_reentrant=False)
        return block(tokens)

    def _keep(self, features: ImageFeatures, layer: int, tokens: Tensor, grid: Size) -> None:
        count = self.visual.num_prefix_tokens
        features.hidden[layer] = to_map(tokens[:, count:], grid)  # (B, C, h, w)
        if count:
            features.prefix[layer] = tokens[:, :count]
