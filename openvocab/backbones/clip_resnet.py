"""The modified ResNet of CLIP with its attention pool, at any image size."""

from collections.abc import Collection

import torch
from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor, nn

from openvocab.backbones.readouts import AttentionReadout, Plain, Readout
from openvocab.layers.attention import attend
from openvocab.layers.clip_attention import project_output, project_qkv
from openvocab.layers.positions import PositionResize, resize_positions
from openvocab.layers.recompute import recompute
from openvocab.layers.token_maps import to_map
from openvocab.structures import BackboneSpec, ImageFeatures

STRIDES = (4, 4, 8, 16, 32)
REGIONS_AT_ONCE = 256
"""Of 7x7 places and 2048 channels: a hundred megabytes."""


class ModifiedResNetReader:
    """Reads pooled, dense and hidden features from open_clip's `ModifiedResNet` without changing it.

    The attention pool is a last attention without residual and feed-forward half: its token 0, the mean of the map,
    asks for the pooled embedding. The readouts ask for every place in the same way; "value" is the value and the
    output projection of each place. The places keep their position embeddings, since the values that the pool averages
    contain them; "maskclip" is the same without them, as its code has it, and gives the keys as they are.

    Args:
        visual: the tower; the module that holds this reader owns it.
        readout: how the pool makes patch embeddings.
        position_resize: see `resize_positions`.
        checkpointing: recompute the residual blocks in the backward pass (their batch norms must be frozen).

    Raises:
        ValueError: a readout that reads the blocks of a vision transformer.
    """

    tail = ("attnpool",)

    def __init__(
        self, visual: ModifiedResNet, readout: Readout, position_resize: PositionResize, checkpointing: bool
    ) -> None:
        if not isinstance(readout, AttentionReadout):
            raise ValueError(
                f"{type(readout).__name__} reads the blocks of a vision transformer; a ResNet has its pool alone: use "
                "readout='clip', 'value', 'maskclip', 'sclip', 'clearclip' or 'naclip'"
            )
        self.visual = visual
        self.readout = readout
        self.position_resize = position_resize
        self.checkpointing = checkpointing

    @property
    def blocks(self) -> list[nn.Module]:
        """Stages in order."""
        return [self.visual.layer1, self.visual.layer2, self.visual.layer3, self.visual.layer4]

    def spec(self) -> BackboneSpec:
        """Return the facts that heads read; `hidden[0]` leaves the stem, `hidden[i]` stage i."""
        widths = tuple(stage[-1].bn3.num_features for stage in self.blocks)
        return BackboneSpec(
            embed_dim=self.visual.output_dim,
            stride=STRIDES[-1],
            hidden_dims=(self.visual.bn3.num_features, *widths),
            hidden_strides=STRIDES,
        )

    def __call__(self, images: Tensor, layers: Collection[int], embed: bool) -> ImageFeatures:
        """Encode (B, 3, H, W); see `Backbone.forward`."""
        features = ImageFeatures(input_size=tuple(images.shape[-2:]))
        maps = self.visual.stem(images)
        _keep(features, 0, maps, layers)
        stages = self.blocks if embed else self.blocks[: max(layers, default=0)]
        for i, stage in enumerate(stages, start=1):
            maps = self._run(stage, maps)
            _keep(features, i, maps, layers)
        if embed:
            self._pool(features, maps)
        features.pool = self.embed_regions
        return features

    def embed_regions(self, regions: Tensor) -> Tensor:
        """Pool regions (N, C, s, s) of the last map one by one, as the tower pools a whole map: (N, D)."""
        return torch.cat([self._pool_only(part) for part in regions.split(REGIONS_AT_ONCE)])

    def _run(self, stage: nn.Sequential, maps: Tensor) -> Tensor:
        for block in stage:
            maps = recompute(block, maps) if self.checkpointing else block(maps)
        return maps

    def _pool(self, features: ImageFeatures, maps: Tensor) -> None:
        """Add the pooled (B, D) and the dense (B, D, h, w) embedding of (B, C, h, w)."""
        pool, grid_size = self.visual.attnpool, tuple(maps.shape[-2:])
        projections = project_qkv(pool, self._tokens(maps))
        read = projections if self.readout.pool_positions else project_qkv(pool, self._tokens(maps, positions=False))
        dense = project_output(pool, self.readout.mix(read, grid_size))  # (B, 1 + h * w, D)
        features.patch_embed = to_map(dense[:, 1:], grid_size)
        if self.readout.gives_keys:
            features.patch_keys = to_map(read[1][:, :, 1:].transpose(1, 2).flatten(2), grid_size)
        if isinstance(self.readout, Plain):
            features.image_embed = dense[:, 0]
        else:
            q, k, v = projections
            features.image_embed = project_output(pool, attend(q[:, :, :1], k, v))[:, 0]

    def _pool_only(self, maps: Tensor) -> Tensor:
        """Return the pooled (B, D) embedding alone.

        With one query a map, the weights of keys and values are applied to the query and to the mean instead of to
        every place: a twentieth of the products. The keys' bias shifts all scores of a query alike and falls out.
        """
        pool, tokens = self.visual.attnpool, self._tokens(maps)  # (B, N, C)
        query = pool.q_proj(tokens[:, 0]).unflatten(-1, (pool.num_heads, -1))  # (B, heads, d)
        keys, values = (part.weight.unflatten(0, (pool.num_heads, -1)) for part in (pool.k_proj, pool.v_proj))
        asked = torch.einsum("bhd,hdc->bhc", query * query.shape[-1] ** -0.5, keys)
        seen = (asked @ tokens.transpose(1, 2)).softmax(dim=-1) @ tokens  # (B, heads, C)
        return pool.c_proj(torch.einsum("bhc,hdc->bhd", seen, values).flatten(1) + pool.v_proj.bias)

    def _tokens(self, maps: Tensor, positions: bool = True) -> Tensor:
        """Return the mean and the places of (B, C, h, w), with their positions or without, (B, 1 + h * w, C)."""
        native = (self.visual.image_size // STRIDES[-1],) * 2
        places = maps.flatten(2).transpose(1, 2)  # (B, h * w, C)
        tokens = torch.cat([places.mean(dim=1, keepdim=True), places], dim=1)
        if not positions:
            return tokens
        embedding = self.visual.attnpool.positional_embedding
        resized = resize_positions(embedding, native, tuple(maps.shape[-2:]), self.position_resize)
        return tokens + resized.to(tokens.dtype)


def _keep(features: ImageFeatures, i: int, maps: Tensor, layers: Collection[int]) -> None:
    if i in layers:
        features.hidden[i] = maps
