"""ProxyCLIP: CLIP's values, averaged by the similarity of another tower's patches."""

import math
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.transformer import VisionTransformer
from torch import Tensor

from openvocab.backbones.base import Backbone
from openvocab.backbones.clip_vit import VisionTransformerReader
from openvocab.backbones.readouts import ForwardPass, Readout
from openvocab.backbones.readouts.self_calibration import apply_weights
from openvocab.backbones.readouts.similarity import contrast_softmax, cosines
from openvocab.clip.open_clip_model import create_image_tower, pixel_statistics, uses_quick_gelu
from openvocab.layers.packed_linear import pack_linears
from openvocab.layers.positions import PositionResize, check_position_resize
from openvocab.registry import BACKBONES, build_part
from openvocab.structures import ImageFeatures, Size, size_of

MEAN_FACTOR = 1.2
"""Patches take part in an average if their similarity exceeds this factor times the mean similarity."""


@BACKBONES.register_module()
class ProxyCLIPBackbone(Backbone):
    """CLIP with the last attention softmax(3 (C - 1.2 mean C)), where C are the cosines of another tower's patches.

    `patch_embed` lies on the grid of that tower (the proxy), to which the values are resized; everything else is CLIP's
    own. The mean of C is per image (the official code computes it over the batch, which holds one window).

    Args:
        model, pretrained: CLIP's, a vision transformer; see `create_clip`.
        proxy: config (or built part) of the other backbone, such as `dict(type=DINOBackbone,
            model="vit_base_patch8_224.dino", pretrained=True)`; it gets the same pixels, normalized by its own mean and
            std.
        position_resize: how CLIP's position embeddings are resampled; see `resize_positions`.

    Raises:
        ValueError: the CLIP is not a vision transformer, or the proxy has no patch embeddings.

    Reference: arXiv 2408.04883.
    """

    def __init__(
        self,
        model: str,
        pretrained: str | None = None,
        *,
        proxy: Any,
        position_resize: PositionResize = "bicubic_offset",
    ) -> None:
        super().__init__()
        check_position_resize(position_resize)
        self.visual = create_image_tower(model, pretrained).requires_grad_(False)
        if type(self.visual) is not VisionTransformer:
            raise ValueError(f"{model}: ProxyCLIP needs a vision transformer, got a {type(self.visual).__name__}")
        self.proxy: Backbone = build_part(BACKBONES, proxy)
        if self.proxy.spec.embed_dim is None:
            raise ValueError(f"proxy: {type(self.proxy).__name__} has no patch embeddings; use DINOBackbone")
        self.position_resize = position_resize
        spec = self._reader(Readout()).spec()
        self.spec = replace(spec, stride=math.lcm(spec.stride, self.proxy.spec.stride))
        self.mean, self.std = pixel_statistics(model, pretrained)
        self.quick_gelu = uses_quick_gelu(model)
        self.train(False)

    def forward(self, images: Tensor, layers: Collection[int] = (), embed: bool = True) -> ImageFeatures:
        """Encode images (B, 3, H, W); see `Backbone.forward`. `patch_embed` is (B, D, h', w') on the proxy's grid."""
        self.check_input(images, layers)
        readout = Readout()
        if embed:
            maps = self.proxy(self.for_proxy(images)).patch_embed  # (B, C, h', w')
            weights = contrast_softmax(cosines(maps.flatten(2).transpose(1, 2)), mean_factor=MEAN_FACTOR)  # (B, N', N')
            readout = ProxyAttention(weights, size_of(maps))
        return self._reader(readout)(images.to(next(self.visual.parameters()).dtype), layers, embed)

    def for_proxy(self, images: Tensor) -> Tensor:
        """Return images (B, 3, H, W) that are normalized for CLIP, normalized by the proxy's mean and std instead."""
        mean, std, proxy_mean, proxy_std = (
            torch.tensor(values, device=images.device).view(3, 1, 1)
            for values in (self.mean, self.std, self.proxy.mean, self.proxy.std)
        )
        # Back to pixel values 0..255 and from there to the proxy's statistics.
        return (images * std + mean - proxy_mean) / proxy_std

    def pack_linears(self) -> None:
        """See `Backbone.pack_linears`."""
        self.proxy.pack_linears()
        for block in self._reader(Readout()).blocks:
            pack_linears(block)

    def train(self, mode: bool = True) -> "ProxyCLIPBackbone":
        """Stay in eval mode: the backbone is frozen."""
        return super().train(False)

    def _reader(self, readout: Readout) -> VisionTransformerReader:
        return VisionTransformerReader(self.visual, readout, self.position_resize, checkpointing=False)


class ProxyAttention(Readout):
    """Values of the last attention, resized to another grid and averaged there with given weights.

    Args:
        weights: (B, h' * w', h' * w'), the same for every head.
        grid_size: (h', w') of the other grid.
    """

    def __init__(self, weights: Tensor, grid_size: Size) -> None:
        self.weights, self.grid_size = weights, grid_size

    def output_size(self, grid_size: Size) -> Size:
        """See `Readout.output_size`."""
        return self.grid_size

    def patches(self, tower: ForwardPass) -> Tensor:
        """Return the averaged values (B, h' * w', C) on the other grid; see `Readout.patches`."""
        values = tower.projections[2][:, :, 1:]  # (B, heads, N, d), without the class token
        # The heads become channels of one map, since interpolation takes (B, C, h, w).
        maps = values.transpose(2, 3).flatten(1, 2).unflatten(2, tower.grid_size)  # (B, C, h, w)
        if self.grid_size != tower.grid_size:
            maps = F.interpolate(maps, size=self.grid_size, mode="bilinear", align_corners=False)
        values = maps.flatten(2).unflatten(1, (values.shape[1], -1)).transpose(2, 3)  # (B, heads, N', d)
        return tower.blocks[-1].output(apply_weights(values, self.weights))
