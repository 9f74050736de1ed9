"""Patch embedding only: the backbone of heads that contain their own transformer (GroupViT)."""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn

from openvocab.backbones.base import Backbone, rgb
from openvocab.layers.positions import PositionResize, check_position_resize, resize_positions
from openvocab.layers.token_maps import to_map
from openvocab.registry import BACKBONES
from openvocab.structures import BackboneSpec, ImageFeatures, size_of

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


@BACKBONES.register_module()
class PatchEmbedding(Backbone):
    """One convolution, a layer norm and learned positions; `hidden[0]` is the input of a transformer.

    Args:
        width: C of the tokens.
        patch_size: side of a patch in pixels; also the stride.
        image_size: side in pixels of the images that the positions are stored for; for others they are resampled.
        position_resize: see `resize_positions`.
        mean, std: RGB of pixel values in 0..255; default: ImageNet's.

    Raises:
        ValueError: the image size is not divisible by the patch size, or the resampling method is unknown.

    Reference: the first layer of GroupViT, arXiv 2202.11094.
    """

    def __init__(
        self,
        width: int = 384,
        patch_size: int = 16,
        image_size: int = 224,
        position_resize: PositionResize = "bicubic_plain",
        mean: Sequence[float] = IMAGENET_MEAN,
        std: Sequence[float] = IMAGENET_STD,
    ) -> None:
        super().__init__()
        check_position_resize(position_resize)
        if image_size % patch_size:
            raise ValueError(f"image_size {image_size} is not divisible by patch_size {patch_size}")
        self.spec = BackboneSpec(None, patch_size, (width,), (patch_size,))
        self.mean, self.std = rgb(mean, "mean"), rgb(std, "std")
        self.position_resize = position_resize
        self.grid_size = (image_size // patch_size,) * 2
        self.project = nn.Conv2d(3, width, patch_size, stride=patch_size)
        self.norm = nn.LayerNorm(width)
        self.positions = nn.Parameter(torch.empty(self.grid_size[0] * self.grid_size[1], width))
        nn.init.trunc_normal_(self.positions, std=0.02)

    def forward(self, images: Tensor, layers: Collection[int] = (), embed: bool = True) -> ImageFeatures:
        """Encode images (B, 3, H, W); see `Backbone.forward`. The only map is `hidden[0]`, (B, C, h, w)."""
        self.check_input(images, layers)
        features = ImageFeatures(input_size=size_of(images))
        if 0 in layers:
            maps = self.project(images.to(self.positions.dtype))  # (B, C, h, w)
            grid_size = size_of(maps)
            positions = resize_positions(self.positions, self.grid_size, grid_size, self.position_resize)
            # As in GroupViT, the norm comes before the positions, which keep their scale.
            tokens = self.norm(maps.flatten(2).transpose(1, 2)) + positions  # (B, h * w, C)
            features.hidden[0] = to_map(tokens, grid_size)  # (B, C, h, w)
        return features
