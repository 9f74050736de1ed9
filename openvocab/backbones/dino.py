"""Self-supervised vision transformers (DINO, DINOv2), whose patch features group objects but do not relate to text."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from timm.models.vision_transformer import Block, VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn

from openvocab.backbones.base import Backbone
from openvocab.backbones.timm_backbone import create_timm_model, pixel_statistics, read_timm_weights
from openvocab.backbones.timm_vit import TokenReader
from openvocab.checkpoint.start_weights import reads_start_weights
from openvocab.checkpoint.strict_loading import load_strictly
from openvocab.layers.packed_linear import PackedSelfAttention, pack_linears
from openvocab.layers.positions import PositionResize
from openvocab.layers.token_maps import to_map
from openvocab.registry import BACKBONES
from openvocab.structures import ImageFeatures, size_of


@BACKBONES.register_module()
class DINOBackbone(Backbone):
    """A frozen vision transformer of timm; its tokens after the last norm are `image_embed` and `patch_embed`.

    Args:
        model: DINO's (`vit_base_patch16_224.dino`, `vit_base_patch8_224.dino`), DINOv2's
            (`vit_base_patch14_reg4_dinov2.lvd142m`), or another plain vision transformer of `timm.list_models()`.
        pretrained: None (random weights), True (timm's own: needs network or its cache), or a local file in timm's or
            the official layout.
        position_resize: see `resize_positions`. DINO's and DINOv2's code: "bicubic_offset"; DINOv2 with registers:
            "bicubic".
        class_attention: also return `ImageFeatures.class_attention`.

    Raises:
        ValueError: the model is unknown or not a plain vision transformer, or the file does not fit it.
        FileNotFoundError: the file does not exist, or the weights cannot be downloaded.

    Reference: arXiv 2104.14294 (DINO), arXiv 2304.07193 and 2309.16588 (DINOv2, registers).
    """

    def __init__(
        self,
        model: str,
        pretrained: str | Path | bool | None = None,
        position_resize: PositionResize = "bicubic_offset",
        class_attention: bool = False,
    ) -> None:
        super().__init__()
        if not reads_start_weights():
            pretrained = None
        self.visual = _create(model, pretrained is True).requires_grad_(False)
        if isinstance(pretrained, (str, Path)):
            _load(self.visual, model, Path(pretrained))
        self.reader = TokenReader(self.visual, position_resize, checkpointing=False)
        self.class_attention = class_attention
        self.spec = replace(self.reader.spec(), embed_dim=self.visual.embed_dim)
        self.mean, self.std = pixel_statistics(self.visual)
        self.train(False)

    def forward(self, images: Tensor, layers: Collection[int] = (), embed: bool = True) -> ImageFeatures:
        """Encode images (B, 3, H, W), cast to the dtype of the weights; see `Backbone.forward`."""
        self.check_input(images, layers)
        images, count = images.to(next(self.visual.parameters()).dtype), len(self.reader.blocks)
        if not embed:
            return self.reader(images, layers)
        # The class token's attention in the last block is computed again from the input of that block, count - 1.
        features = self.reader(images, {*layers, count - 1, count})
        patches = features.hidden[count].flatten(2).transpose(1, 2)  # (B, h * w, C)
        tokens = self.visual.norm(torch.cat([features.prefix[count], patches], dim=1))  # (B, P + h * w, C)
        grid_size = size_of(features.hidden[count])
        first_patch = self.visual.num_prefix_tokens
        features.image_embed = tokens[:, 0]  # (B, C)
        features.patch_embed = to_map(tokens[:, first_patch:], grid_size)  # (B, C, h, w)
        if self.class_attention:
            scores = self._class_scores(features, count)[..., first_patch:]
            features.class_attention = scores.unflatten(2, grid_size)  # (B, heads, h, w)
        # Drop what was computed for the embeddings only.
        features.hidden = {i: maps for i, maps in features.hidden.items() if i in layers}
        features.prefix = {i: tokens for i, tokens in features.prefix.items() if i in layers}
        return features

    def pack_linears(self) -> None:
        """See `Backbone.pack_linears`."""
        for block in self.reader.blocks:
            pack_linears(block)

    def train(self, mode: bool = True) -> "DINOBackbone":
        """Stay in eval mode: the backbone is frozen."""
        return super().train(False)

    def _class_scores(self, features: ImageFeatures, count: int) -> Tensor:
        """Return the attention logits (B, heads, N) of the class token with all tokens in the last block."""
        block: Any = self.reader.blocks[-1]  # timm's block, or one whose attention is packed
        patches = features.hidden[count - 1].flatten(2).transpose(1, 2)  # (B, h * w, C)
        tokens = block.norm1(torch.cat([features.prefix[count - 1], patches], dim=1))
        project = block.attn.in_proj if isinstance(block.attn, PackedSelfAttention) else block.attn.qkv
        q, k, _ = project(tokens).unflatten(2, (3, block.attn.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        return (q[:, :, :1] @ k.transpose(2, 3))[:, :, 0] * q.shape[-1] ** -0.5  # (B, heads, N)


def _create(model: str, pretrained: bool) -> VisionTransformer:
    with torch.device("meta"):  # checked without memory for the weights
        probe = create_timm_model(model)
    if not _is_plain_with_class_token(probe):
        raise ValueError(
            f"{model}: expected a plain vision transformer of timm with a class token (DINO, DINOv2), got a "
            f"{type(probe).__name__}"
        )
    tower = create_timm_model(model, pretrained, num_classes=0, global_pool="token", dynamic_img_size=True)
    return cast(VisionTransformer, tower)


def _is_plain_with_class_token(tower: nn.Module) -> bool:
    if type(tower) is not VisionTransformer or tower.cls_token is None or tower.pos_embed is None:
        return False
    return all(type(block) is Block for block in tower.blocks)


def _load(tower: VisionTransformer, model: str, path: Path) -> None:
    """Load a file in timm's or the official layout, without the head of a classifier or of the pretraining."""
    state = checkpoint_filter_fn(read_timm_weights(path), tower)
    state = {key: value for key, value in state.items() if not key.startswith("head.")}
    load_strictly(tower, state, f"{path} does not fit {model}")
