"""The vision transformers that open_clip builds with timm, against timm's and open_clip's own forward."""

import math
from unittest.mock import patch

import open_clip
import pytest
import timm
import torch
import torch.nn.functional as F
from open_clip.timm_model import TimmModel
from torch import Tensor, nn

from openvocab.backbones.clip import tower_reader
from openvocab.backbones.clip_timm_vit import TimmTransformerReader
from openvocab.backbones.clip_vit import VisionTransformerReader
from openvocab.backbones.readouts import build_readout
from openvocab.layers.packed_linear import pack_linears
from openvocab.structures import ImageFeatures

WIDTH, DEPTH, DIM = 48, 3, 20
NARROW = dict(embed_dim=WIDTH, depth=DEPTH, num_heads=4, img_size=64)
TOWERS = {
    "SigLIP 2": ("vit_base_patch16_siglip_512", dict(pool="map", proj="none")),
    "SigLIP so400m": ("vit_so400m_patch16_siglip_256", dict(pool="map", proj="none")),
    "PE-Core": ("vit_pe_core_base_patch16_224", dict(pool="map", proj="")),
    "PE-Core tiny": ("vit_pe_core_tiny_patch16_384", dict(pool="map", proj="")),
    "EVA01": ("eva_giant_patch14_clip_224", dict(pool="token", proj="")),
    "EVA02-B": ("eva02_base_patch16_clip_224", dict(pool="token", proj="")),
    "EVA02-E": ("eva02_enormous_patch14_clip_224", dict(pool="token", proj="")),
    "MobileCLIP2-L": ("vit_large_patch14_clip_224", dict(pool="token", proj="")),
    "ViT of average pool": ("vit_medium_patch16_gap_256", dict(pool="avg", proj="linear")),
    "ViTamin": ("vitamin_small_224", dict(pool="", proj="linear")),
    "MobileCLIP-B": ("vit_base_mci_224", dict(pool="token", proj="")),
    "mixed rotary positions": ("vit_small_patch16_rope_mixed_224", dict(pool="token", proj="linear")),
}
MAP_POOLS = ["SigLIP 2", "SigLIP so400m", "PE-Core", "PE-Core tiny"]
READOUTS = ["value", "maskclip", "sclip", "clearclip", "naclip"]


def make_tower(name: str, size: int = 64) -> TimmModel:
    """Build a narrow tower of a family as open_clip does, with random weights everywhere."""
    model, options = TOWERS[name]
    size = size if "14" not in model else size // 16 * 14
    created = timm.create_model

    def narrow(model: str, **given):
        # SigLIP's towers end without a projection, in their own width
        return created(model, **{**given, **NARROW, "img_size": size, **OWN.get(model, {})})

    with patch.object(timm, "create_model", narrow):
        tower = TimmModel(model, WIDTH if options["proj"] == "none" else DIM, size, **options)
    return enliven(tower).eval()


OWN = {
    "vit_pe_core_tiny_patch16_384": dict(num_heads=3),
    "vitamin_small_224": dict(embed_dim=384, num_heads=6),  # the width of their convolutional stems
    "vit_base_mci_224": dict(embed_dim=768, num_heads=12),
}


def enliven(module: nn.Module) -> nn.Module:
    """Give every weight a random value, so that no part of a tower is an identity."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise * 0.3 / math.sqrt(max(1, parameter.shape[-1] / 16)) + (parameter.ndim < 2) * 0.5)
    return module


def read(tower: nn.Module, images: Tensor, readout="clip", layers=()) -> ImageFeatures:
    kind = TimmTransformerReader if isinstance(tower, TimmModel) else VisionTransformerReader
    reader = kind(tower, build_readout(readout), "bicubic", False)
    with torch.no_grad():
        return reader(images, layers, True)


def make_images(tower: nn.Module, height: int = 0, width: int = 0) -> Tensor:
    size = tower.image_size
    shape = (height or size[0], width or size[1])
    return torch.randn(2, 3, *shape, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module", params=TOWERS)
def tower(request) -> TimmModel:
    return make_tower(request.param)


def test_the_pooled_embedding_is_that_of_open_clip(tower):
    images = make_images(tower)
    with torch.no_grad():
        expected = tower(images)
    torch.testing.assert_close(read(tower, images).image_embed, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", TOWERS)
def test_another_size_is_that_of_a_tower_resized_by_timm(name):
    tower, resized = make_tower(name), make_tower(name)
    stride = tower.trunk.patch_embed.feat_ratio(as_scalar=True)
    size = (3 * stride, 5 * stride)
    resized.trunk.set_input_size(size)
    images = make_images(tower, *size)
    with torch.no_grad():
        expected = resized(images)
    torch.testing.assert_close(read(tower, images).image_embed, expected, atol=1e-5, rtol=1e-5)


def test_hidden_maps_are_the_outputs_of_timms_blocks(tower):
    images = make_images(tower)
    prefix = tower.trunk.num_prefix_tokens
    with torch.no_grad():
        blocks = tower.trunk.forward_intermediates(
            images, norm=False, intermediates_only=True, return_prefix_tokens=prefix > 0
        )
    features = read(tower, images, layers=range(DEPTH + 1))
    assert sorted(features.hidden) == [0, 1, 2, 3]
    for i, block in enumerate(blocks, 1):
        expected, expected_prefix = block if prefix else (block, None)
        torch.testing.assert_close(features.hidden[i], expected, atol=1e-5, rtol=1e-5)
        if prefix:
            torch.testing.assert_close(features.prefix[i], expected_prefix, atol=1e-5, rtol=1e-5)
    assert set(features.prefix) == (set(range(DEPTH + 1)) if prefix else set())


@pytest.mark.parametrize("name", MAP_POOLS)
@pytest.mark.parametrize("size", [(64, 64), (48, 96)])
def test_the_dense_map_pooled_by_the_weights_of_the_pool_is_the_image_embedding(name, size):
    tower = make_tower(name)
    reader = TimmTransformerReader(tower, build_readout("clip"), "bicubic", False)
    images = make_images(tower, *size)
    with torch.no_grad():
        features = reader(images, (DEPTH,), True)
        tokens = features.hidden[DEPTH].flatten(2).transpose(1, 2)
        prefix = features.prefix.get(DEPTH)
        tokens = tower.trunk.norm(tokens if prefix is None else torch.cat([prefix, tokens], dim=1))
        weights = reader.pool.weights(tokens)  # (B, P + N)
        shares = reader.pool.shares(tokens)  # (B, P + N, D)
    count = features.patch_embed[0, 0].numel()
    torch.testing.assert_close(weights.sum(1), torch.ones(2))
    torch.testing.assert_close(shares[:, -count:].transpose(1, 2), features.patch_embed.flatten(2))
    pooled = (weights[..., None] * shares).sum(1)
    torch.testing.assert_close(pooled, features.image_embed, atol=1e-4, rtol=1e-4)


def test_the_weights_of_a_pool_are_those_of_its_attention():
    tower = make_tower("PE-Core")
    pool, tokens = tower.trunk.attn_pool, torch.randn(2, 17, WIDTH)
    ours = TimmTransformerReader(tower, build_readout("clip"), "bicubic", False).pool.weights(tokens)
    with torch.no_grad(), patch.object(F, "scaled_dot_product_attention") as attention:
        attention.side_effect = lambda q, k, v, **_: v.mean(2, keepdim=True)
        pool(tokens)
    q, k, _ = attention.call_args.args
    torch.testing.assert_close(ours, (q @ k.transpose(2, 3) * q.shape[-1] ** -0.5).softmax(-1)[:, :, 0].mean(1))


def last_block_with(tower: TimmModel, tokens: Tensor, mix) -> Tensor:
    """Run the attention of the last block of timm's own code with another way to mix the values."""
    block = tower.trunk.blocks[-1]
    rope = {}
    if getattr(tower.trunk, "rope", None) is not None:
        grid = (tower.image_size[0] // tower.trunk.patch_embed.feat_ratio(as_scalar=True),) * 2
        embed = tower.trunk.rope.get_embed(shape=grid)
        rope = dict(rope=embed[-1] if getattr(tower.trunk, "rope_mixed", False) else embed)
    post_norm = type(block).__name__ == "EvaBlockPostNorm"
    with torch.no_grad(), patch.object(F, "scaled_dot_product_attention", lambda q, k, v, **_: mix(q, k, v)):
        attended = block.attn(tokens if post_norm else block.norm1(tokens), **rope)
    return block.norm1(attended) if post_norm else attended


def plain_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.transpose(2, 3) * q.shape[-1] ** -0.5).softmax(-1) @ v


MIXES = {
    "value": lambda q, k, v: v,
    "sclip": lambda q, k, v: plain_attention(q, q, v) + plain_attention(k, k, v),
    "clearclip": lambda q, k, v: plain_attention(q, q, v),
}


@pytest.mark.parametrize("readout", MIXES)
def test_readouts_change_the_last_attention_of_timms_own_block(tower, readout):
    images = make_images(tower)
    features = read(tower, images, readout, layers=(DEPTH - 1,))
    tokens = features.hidden[DEPTH - 1].flatten(2).transpose(1, 2)
    prefix = tower.trunk.num_prefix_tokens
    if prefix:
        tokens = torch.cat([features.prefix[DEPTH - 1], tokens], dim=1)
    attended = last_block_with(tower, tokens, MIXES[readout])
    with torch.no_grad():
        if readout == "sclip":  # the rest of the block, by timm's own forward with this attention
            block = tower.trunk.blocks[-1]
            post_norm = type(block).__name__ == "EvaBlockPostNorm"
            raw = last_block_with(tower, tokens, MIXES[readout]) if not post_norm else None
            if post_norm:
                entered = tokens + attended
                attended = entered + block.norm2(block.mlp(entered))
            else:
                with patch.object(type(block.attn), "forward", lambda *_, **__: raw):
                    attended = block(tokens)
        # each patch as if it were the whole map: what the tower's own head returns for a single token
        cells = tower.trunk.norm(attended[:, prefix:]).flatten(0, 1)[:, None]  # (B * N, 1, C)
        if prefix and tower.trunk.attn_pool is None and tower.trunk.global_pool == "avg":
            cells = torch.cat([cells, cells], dim=1)
        expected = tower.head(tower.trunk.forward_head(cells))
    dense = features.patch_embed.flatten(2).transpose(1, 2).flatten(0, 1)
    torch.testing.assert_close(dense, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("readout", READOUTS)
def test_every_attention_readout_fits_every_tower(tower, readout):
    features = read(tower, make_images(tower), readout)
    stride = tower.trunk.patch_embed.feat_ratio(as_scalar=True)
    side = tower.image_size[0] // stride
    assert features.patch_embed.shape == (2, features.image_embed.shape[1], side, side)
    assert features.patch_embed.isfinite().all()
    torch.testing.assert_close(features.image_embed, read(tower, make_images(tower)).image_embed)


@pytest.mark.parametrize("name", TOWERS)
def test_a_packed_tower_says_the_same(name):
    tower = make_tower(name)
    reader = TimmTransformerReader(tower, build_readout("sclip"), "bicubic", False)
    images = make_images(tower)
    with torch.no_grad():
        expected = reader(images, (DEPTH,), True)
        for block in tower.trunk.blocks:
            pack_linears(block)
        packed = reader(images, (DEPTH,), True)
    for got, whole in ((packed.patch_embed, expected.patch_embed), (packed.hidden[DEPTH], expected.hidden[DEPTH])):
        torch.testing.assert_close(got, whole, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("readout", ["scclip", "sfp", dict(type="rfclip", sink_channels=(1, 2))])
def test_readouts_that_need_a_class_token_say_so(readout):
    images = make_images(make_tower("EVA02-B"))
    assert read(make_tower("EVA02-B"), images, readout).patch_embed.isfinite().all()
    with pytest.raises(ValueError, match="needs a class token.*0 tokens before its patches; use 'clip', 'value'"):
        read(make_tower("SigLIP 2"), images, readout)


def test_towers_without_a_reader_are_named():
    swin = TimmModel("swin_tiny_patch4_window7_224", 16, 224, pool="avg", proj="linear")
    with pytest.raises(ValueError, match="SwinTransformer is not supported"):
        tower_reader(swin, build_readout("clip"), "bicubic", False)
    nonlinear = TimmModel("vit_base_patch16_siglip_224", 16, 224, pool="map", proj="mlp")
    with pytest.raises(ValueError, match="layers after its attention pool that are not linear"):
        tower_reader(nonlinear, build_readout("clip"), "bicubic", False)
    relative = TimmModel("vit_relpos_medium_patch16_cls_224", 16, 224, pool="avg", proj="linear")
    with pytest.raises(ValueError, match="of a kind without a reader"):
        tower_reader(relative, build_readout("clip"), "bicubic", False)


# --- CoCa -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[16, 24])
def coca(request) -> nn.Module:
    """Build a tiny image tower of CoCa; its pool keeps packed weights if both widths are equal."""
    tower = open_clip.transformer.VisionTransformer(
        image_size=32, patch_size=8, width=24, layers=2, heads=2, mlp_ratio=2, attentional_pool=True,
        attn_pooler_queries=5, attn_pooler_heads=2, output_dim=request.param,
    )  # fmt: skip
    return enliven(tower).eval()


def test_coca_is_that_of_open_clip(coca):
    images = make_images(coca)
    with torch.no_grad():
        expected = coca(images)
    torch.testing.assert_close(read(coca, images).image_embed, expected, atol=1e-5, rtol=1e-5)


def test_the_dense_map_of_coca_pooled_by_its_weights_is_the_image_embedding(coca):
    reader = VisionTransformerReader(coca, build_readout("clip"), "bicubic", False)
    with torch.no_grad():
        features = reader(make_images(coca, 32, 48), (2,), True)
        tokens = torch.cat([features.prefix[2], features.hidden[2].flatten(2).transpose(1, 2)], dim=1)
        pool = reader.pool
        pooled = (pool.weights(tokens)[..., None] * pool.shares(tokens)).sum(1)
    torch.testing.assert_close(pooled, features.image_embed, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(pool.shares(tokens)[:, 1:].transpose(1, 2), features.patch_embed.flatten(2))


def test_a_patch_of_coca_alone_is_what_its_own_pool_returns_for_it(coca):
    images = make_images(coca)
    features = read(coca, images, "maskclip", layers=(1,))
    with torch.no_grad():
        tokens = torch.cat([features.prefix[1], features.hidden[1].flatten(2).transpose(1, 2)], dim=1)
        block = coca.transformer.resblocks[-1]
        values = F.linear(
            block.ln_1(tokens), *(part[-24:] for part in (block.attn.in_proj_weight, block.attn.in_proj_bias))
        )
        tokens = tokens + block.attn.out_proj(values)
        tokens = tokens + block.mlp(block.ln_2(tokens))
        expected = [coca._pool(tokens[:, i : i + 1])[0] @ coca.proj for i in range(1, tokens.shape[1])]
    torch.testing.assert_close(features.patch_embed.flatten(2).unbind(2)[0], expected[0], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(features.patch_embed.flatten(2), torch.stack(expected, dim=2), atol=1e-5, rtol=1e-4)
