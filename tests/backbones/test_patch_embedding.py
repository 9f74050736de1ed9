"""The patch-embedding backbone: its one map, its sizes, its positions."""

import pytest
import torch
import torch.nn.functional as F

from openvocab.backbones.patch_embedding import PatchEmbedding
from openvocab.registry import BACKBONES


def build() -> PatchEmbedding:
    torch.manual_seed(0)
    return PatchEmbedding(width=12, patch_size=8, image_size=32)


def test_is_registered_and_states_its_facts():
    backbone = BACKBONES.build(dict(type="PatchEmbedding", width=12))
    assert backbone.spec.hidden_dims == (12,) and backbone.spec.stride == 16 and backbone.spec.embed_dim is None


def test_a_token_is_its_patch_projected_normalized_and_placed():
    backbone, images = build(), torch.randn(2, 3, 32, 32)
    hidden = backbone(images, (0,)).hidden[0]
    patch = images[1, :, 8:16, 16:24]
    expected = F.layer_norm((backbone.project.weight * patch).sum((1, 2, 3)) + backbone.project.bias, (12,))
    torch.testing.assert_close(hidden[1, :, 1, 2], expected + backbone.positions[1 * 4 + 2], atol=1e-5, rtol=1e-5)


def test_other_sizes_resample_the_positions_without_antialiasing():
    backbone = build()
    hidden = backbone(torch.zeros(1, 3, 64, 40), (0,)).hidden[0]
    maps = backbone.positions.T.reshape(1, 12, 4, 4)
    placed = F.interpolate(maps, (8, 5), mode="bicubic", align_corners=False)
    token = F.layer_norm(backbone.project.bias, (12,))[None, :, None, None]
    torch.testing.assert_close(hidden, token + placed, atol=1e-5, rtol=1e-5)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="30x32 is not divisible by the stride 8"):
        build()(torch.zeros(1, 3, 30, 32))
    with pytest.raises(ValueError, match="layers"):
        build()(torch.zeros(1, 3, 32, 32), (1,))
    with pytest.raises(ValueError, match="not divisible by patch_size"):
        PatchEmbedding(image_size=100)
    with pytest.raises(ValueError, match="bicubic_plain"):
        PatchEmbedding(position_resize="nearest")
