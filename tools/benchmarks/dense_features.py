"""Patch embeddings and the image embedding of a CLIP ViT at another size than it was trained on."""

import copy
from functools import partial

import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from benchmarks.comparison import Row, Sides
from benchmarks.errors import relative_error
from openvocab.backbones.clip import CLIPBackbone
from openvocab.layers.positions import resize_positions
from openvocab.layers.quick_gelu_folding import fold_quick_gelu


def prepare(dtype: torch.dtype, model: str = "ViT-B-16", size: int = 512, device: str = "cpu") -> Sides:
    """Compare `CLIPBackbone` with open_clip's own forward pass on the same weights in float32."""
    torch.manual_seed(0)
    backbone = CLIPBackbone(model).eval().to(device)
    images = torch.randn(1, 3, size, size).to(device)
    tower = tower_at_size(backbone.visual, size)
    fold_quick_gelu(backbone)
    backbone.to(dtype).pack_linears()

    @torch.inference_mode()
    def peer() -> Tensor:
        pooled, tokens = tower(images)
        return torch.cat([pooled[:, None], tokens @ tower.proj], dim=1)  # (1, 1 + h * w, D)

    @torch.inference_mode()
    def ours() -> Tensor:
        features = backbone(images)
        patches = features.patch_embed.flatten(2).transpose(1, 2)
        return torch.cat([features.image_embed[:, None], patches], dim=1)  # (1, 1 + h * w, D)

    return Sides(peer, ours, relative_error)


def tower_at_size(visual: VisionTransformer, size: int) -> VisionTransformer:
    """Copy open_clip's tower with position embeddings for `size` x `size` pixels, so that it returns tokens, too."""
    tower = copy.deepcopy(visual)
    grid = (size // visual.patch_size[0],) * 2
    positions = resize_positions(visual.positional_embedding.detach(), visual.grid_size, grid)
    tower.positional_embedding = nn.Parameter(positions)
    tower.output_tokens = True
    return tower


ROWS = (
    Row(
        "dense_features_fp32",
        1.0,
        partial(prepare, torch.float32),
        products="float32",
        min_peak_fraction=0.8,
        repeats=9,
        on_cuda=True,
    ),
    Row(
        "dense_features_bf16",
        1.0,
        partial(prepare, torch.bfloat16),
        products="bfloat16",
        min_peak_fraction=0.8,
        repeats=9,
        on_cuda=True,
    ),
)
