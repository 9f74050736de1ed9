"""Features of CLIP's modified ResNet and its attention pool, at any image size."""

from collections.abc import Collection
from typing import Any

import torch
from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor, nn

from openvocab.backbones.readouts import AttentionReadout, Plain, Readout
from openvocab.layers.attention import attend
from openvocab.layers.clip_attention import project_output, project_qkv
from openvocab.layers.positions import PositionResize, resize_positions
from openvocab.layers.recompute import recompute
from openvocab.layers.token_maps import to_map
from openvocab.structures import BackboneSpec, ImageFeatures, size_of

STRIDES = (4, 4, 8, 16, 32)
REGIONS_AT_ONCE = 256
"""Regions that are pooled together: 100 MB at 7x7 cells and 2048 channels."""


class ModifiedResNetReader:
    """Computes pooled, dense and hidden features of open_clip's `ModifiedResNet` without changing it.

    The attention pool is an attention without residual connection and feed-forward network, whose query for the pooled
    embedding is the mean of the map (token 0). The readouts compute an output for every cell in the same way; "value"
    applies the value and the output projection to each cell. The cells keep their position embeddings, which the
    averaged values contain too; "maskclip" omits them, as its official code does, and also returns the keys.

    Args:
        visual: the tower; owned by the module that holds this reader.
        readout: how the pool computes patch embeddings.
        position_resize: see `resize_positions`.
        checkpointing: recompute the residual blocks in the backward pass (their batch norms must be frozen).

    Raises:
        ValueError: the readout needs the blocks of a vision transformer.
    """

    tail = ("attnpool",)

    def __init__(
        self, visual: ModifiedResNet, readout: Readout, position_resize: PositionResize, checkpointing: bool
    ) -> None:
        if not isinstance(readout, AttentionReadout):
            raise ValueError(
                f"{type(readout).__name__} needs the blocks of a vision transformer; a ResNet only has its pool: use "
                "readout='clip', 'value', 'maskclip', 'sclip', 'clearclip' or 'naclip'"
            )
        self.visual = visual
        self.readout = readout
        self.position_resize = position_resize
        self.checkpointing = checkpointing

    @property
    def blocks(self) -> list[nn.Sequential]:
        """Stages in order."""
        return [self.visual.layer1, self.visual.layer2, self.visual.layer3, self.visual.layer4]

    def spec(self) -> BackboneSpec:
        """Return widths and strides; `hidden[0]` is the output of the stem, `hidden[i]` of stage i."""
        widths = tuple(_width(stage) for stage in self.blocks)
        return BackboneSpec(
            embed_dim=self.visual.output_dim,
            stride=STRIDES[-1],
            hidden_dims=(self.visual.bn3.num_features, *widths),
            hidden_strides=STRIDES,
        )

    def __call__(self, images: Tensor, layers: Collection[int], embed: bool) -> ImageFeatures:
        """Encode (B, 3, H, W); see `Backbone.forward`."""
        features = ImageFeatures(input_size=size_of(images))
        maps = self.visual.stem(images)
        _store(features, 0, maps, layers)
        # Without embeddings, no stage after the deepest requested map is run.
        stages = self.blocks if embed else self.blocks[: max(layers, default=0)]
        for i, stage in enumerate(stages, start=1):
            maps = self._run(stage, maps)
            _store(features, i, maps, layers)
        if embed:
            self._pool(features, maps)
        features.pool = self.embed_regions
        return features

    def embed_regions(self, regions: Tensor) -> Tensor:
        """Pool each region (N, C, s, s) of the last map as the tower pools a whole map: (N, D)."""
        return torch.cat([self._pool_only(part) for part in regions.split(REGIONS_AT_ONCE)])

    def _run(self, stage: nn.Sequential, maps: Tensor) -> Tensor:
        for block in stage:
            maps = recompute(block, maps) if self.checkpointing else block(maps)
        return maps

    def _pool(self, features: ImageFeatures, maps: Tensor) -> None:
        """Add the pooled (B, D) and the dense embeddings (B, D, h, w) of maps (B, C, h, w)."""
        pool, grid_size = self.visual.attnpool, size_of(maps)
        projections = project_qkv(pool, self._tokens(maps))  # (B, heads, 1 + h * w, d) each
        cells = projections if self.readout.pool_positions else project_qkv(pool, self._tokens(maps, positions=False))
        dense = project_output(pool, self.readout.mix(cells, grid_size))  # (B, 1 + h * w, D)
        features.patch_embed = to_map(dense[:, 1:], grid_size)  # (B, D, h, w)
        if self.readout.gives_keys:
            features.patch_keys = to_map(cells[1][:, :, 1:].transpose(1, 2).flatten(2), grid_size)
        # Only CLIP's own attention gives the mean token the pooled embedding that the tower was trained with.
        if isinstance(self.readout, Plain):
            features.image_embed = dense[:, 0]
        else:
            q, k, v = projections
            features.image_embed = project_output(pool, attend(q[:, :, :1], k, v))[:, 0]

    def _pool_only(self, maps: Tensor) -> Tensor:
        """Return the pooled embedding (B, D) of maps (B, C, h, w), without the dense ones.

        With one query per map, the key and value weights can be applied to the query and to the weighted mean instead
        of every cell, a twentieth of the products. The bias of the keys shifts all scores of a query equally, so the
        softmax cancels it.
        """
        pool, tokens = self.visual.attnpool, self._tokens(maps)  # (B, N, C)
        query = pool.q_proj(tokens[:, 0]).unflatten(-1, (pool.num_heads, -1))  # (B, heads, d)
        keys, values = (part.weight.unflatten(0, (pool.num_heads, -1)) for part in (pool.k_proj, pool.v_proj))
        # q . (W_k x) = (W_k^T q) . x: the key weights move from the N tokens to the one query.
        token_query = torch.einsum("bhd,hdc->bhc", query * query.shape[-1] ** -0.5, keys)  # (B, heads, C)
        mean = (token_query @ tokens.transpose(1, 2)).softmax(dim=-1) @ tokens  # (B, heads, C)
        # The weights of the mean sum to one, so the bias of the values is added once, after it.
        return pool.c_proj(torch.einsum("bhc,hdc->bhd", mean, values).flatten(1) + pool.v_proj.bias)

    def _tokens(self, maps: Tensor, positions: bool = True) -> Tensor:
        """Return the mean and the cells of maps (B, C, h, w), with or without positions, as (B, 1 + h * w, C)."""
        native = (self.visual.image_size // STRIDES[-1],) * 2
        cells = maps.flatten(2).transpose(1, 2)  # (B, h * w, C)
        tokens = torch.cat([cells.mean(dim=1, keepdim=True), cells], dim=1)  # (B, 1 + h * w, C)
        if not positions:
            return tokens
        embedding = self.visual.attnpool.positional_embedding
        resized = resize_positions(embedding, native, size_of(maps), self.position_resize)
        return tokens + resized.to(tokens.dtype)


def _width(stage: Any) -> int:
    """Return the number of channels of a stage of bottlenecks."""
    return stage[-1].bn3.num_features


def _store(features: ImageFeatures, i: int, maps: Tensor, layers: Collection[int]) -> None:
    if i in layers:
        features.hidden[i] = maps
