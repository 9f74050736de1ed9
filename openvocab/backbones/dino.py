"""Self-supervised vision transformers (DINO, DINOv2): their patches know no text, but what belongs together."""

from collections.abc import Collection
from pathlib import Path

import torch
from timm.models.vision_transformer import Block, VisionTransformer, checkpoint_filter_fn
from torch import Tensor, nn

from openvocab.backbones.base import Backbone
from openvocab.backbones.timm_backbone import create_timm_model, read_timm_weights
from openvocab.backbones.timm_vit import TokenReader
from openvocab.checkpoint.start_weights import reads_start_weights
from openvocab.checkpoint.strict_loading import load_strictly
from openvocab.layers.packed_linear import PackedSelfAttention, pack_linears
from openvocab.layers.positions import PositionResize
from openvocab.layers.token_maps import to_map
from openvocab.registry import BACKBONES
from openvocab.structures import BackboneSpec, ImageFeatures


@BACKBONES.register_module()
class DINOBackbone(Backbone):
    """A frozen vision transformer of timm, whose tokens after the last norm are `image_embed` and `patch_embed`.

    Args:
        model: DINO's (`vit_base_patch16_224.dino`, `vit_base_patch8_224.dino`), DINOv2's
            (`vit_base_patch14_reg4_dinov2.lvd142m`), or another plain vision transformer of `timm.list_models()`.
        pretrained: None (random weights), True (timm's own: needs network or its cache), or a local file in timm's or
            the official key layout.
        position_resize: see `resize_positions`. DINO's and DINOv2's code: "bicubic_offset"; DINOv2 with registers:
            "bicubic".
        class_attention: give `ImageFeatures.class_attention` too.

    Raises:
        ValueError: an unknown model, one of another build, or a file that does not fit it.
        FileNotFoundError: no such file, or weights that cannot be downloaded.

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
        facts = self.reader.spec()
        self.spec = BackboneSpec(self.visual.embed_dim, facts.stride, facts.hidden_dims, facts.hidden_strides)
        entry = self.visual.pretrained_cfg
        self.mean, self.std = (tuple(255 * value for value in entry[name]) for name in ("mean", "std"))
        self.train(False)

    def forward(self, images: Tensor, layers: Collection[int] = (), embed: bool = True) -> ImageFeatures:
        """Encode a batch; see `Backbone.forward`."""
        self.check_input(images, layers)
        images, count = images.to(next(self.visual.parameters()).dtype), len(self.reader.blocks)
        if not embed:
            return self.reader(images, layers)
        features = self.reader(images, {*layers, count - 1, count})
        patches = features.hidden[count].flatten(2).transpose(1, 2)  # (B, h * w, C)
        tokens = self.visual.norm(torch.cat([features.prefix[count], patches], dim=1))
        grid_size = features.hidden[count].shape[-2:]
        first_patch = self.visual.num_prefix_tokens
        features.image_embed = tokens[:, 0]
        features.patch_embed = to_map(tokens[:, first_patch:], grid_size)  # (B, C, h, w)
        if self.class_attention:
            scores = self._class_scores(features, count)[..., first_patch:]
            features.class_attention = scores.unflatten(2, grid_size)  # (B, heads, h, w)
        features.hidden = {i: maps for i, maps in features.hidden.items() if i in layers}
        features.prefix = {i: tokens for i, tokens in features.prefix.items() if i in layers}
        return features

    def pack_linears(self) -> None:
        """See `Backbone.pack_linears`."""
        for block in self.reader.blocks:
            pack_linears(block)

    def train(self, mode: bool = True) -> "DINOBackbone":
        """Stay in eval mode: nothing here is trained."""
        return super().train(False)

    def _class_scores(self, features: ImageFeatures, count: int) -> Tensor:
        """Return the scores of the class token's query with all keys in the last block, (B, heads, N)."""
        block = self.reader.blocks[-1]
        patches = features.hidden[count - 1].flatten(2).transpose(1, 2)
        tokens = block.norm1(torch.cat([features.prefix[count - 1], patches], dim=1))
        project = block.attn.in_proj if isinstance(block.attn, PackedSelfAttention) else block.attn.qkv
        q, k, _ = project(tokens).unflatten(2, (3, block.attn.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        return (q[:, :, :1] @ k.transpose(2, 3))[:, :, 0] * q.shape[-1] ** -0.5


def _create(model: str, pretrained: bool) -> nn.Module:
    with torch.device("meta"):
        kind = create_timm_model(model)
    plain = type(kind) is VisionTransformer and kind.cls_token is not None and kind.pos_embed is not None
    if not plain or not all(type(block) is Block for block in kind.blocks):
        raise ValueError(
            f"{model}: expected a plain vision transformer of timm with a class token (DINO, DINOv2), got a "
            f"{type(kind).__name__}"
        )
    return create_timm_model(model, pretrained, num_classes=0, global_pool="token", dynamic_img_size=True)


def _load(tower: nn.Module, model: str, path: Path) -> None:
    """Load a file in timm's or the official layout; the head of a classifier or of the pretraining is left out."""
    state = checkpoint_filter_fn(read_timm_weights(path), tower)
    state = {key: value for key, value in state.items() if not key.startswith("head.")}
    load_strictly(tower, state, f"{path} does not fit {model}")
