"""ProxyCLIP and the towers it leans on."""

import math

import pytest
import torch
import torch.nn.functional as F
from readout_reference import KEYS, SIZES, expected, needs_reference, normal, queries, scene, seeded, visual_state

from openvocab.backbones.clip import CLIPBackbone
from openvocab.backbones.clip_vit import VisionTransformerReader
from openvocab.backbones.dino import DINOBackbone
from openvocab.backbones.proxyclip import ProxyAttention, ProxyCLIPBackbone
from openvocab.backbones.readouts.similarity import contrast_softmax, cosines

DINO = "vit_base_patch16_224.dino"


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> ProxyCLIPBackbone:
    file = tmp_path_factory.mktemp("dino") / "dino.pth"
    torch.save(seeded().state(KEYS / "dino_vitb16.txt", 3), file)
    backbone = ProxyCLIPBackbone("ViT-B-16-quickgelu", proxy=dict(type=DINOBackbone, model=DINO, pretrained=file))
    backbone.visual.load_state_dict(visual_state())
    return backbone


def check(patch_embed: torch.Tensor, array: str) -> None:
    patches = F.normalize(patch_embed, dim=1)[0].flatten(1).T
    torch.testing.assert_close(patches[::14], expected(f"{array}_feat"), rtol=0, atol=1e-6)
    torch.testing.assert_close(patches @ queries().T, expected(f"{array}_sim"), rtol=0, atol=1e-6)


@needs_reference
@torch.inference_mode()
@pytest.mark.parametrize("size", ["a", "s"])
def test_equals_the_published_code_with_dino(published, size):
    images = scene(*SIZES[size])
    maps = published.proxy(published.for_proxy(images)).patch_embed
    patches = F.normalize(maps, dim=1)[0].flatten(1).T
    torch.testing.assert_close(patches[::28], expected(f"dino_{size}_feat"), rtol=0, atol=1e-6)
    check(published(images).patch_embed, f"proxydino_{size}")


@needs_reference
@torch.inference_mode()
@pytest.mark.parametrize("side", [14, 21])
def test_equals_the_published_code_on_any_grid(published, side):
    external = normal((1, 32, side, side), 8)
    weights = contrast_softmax(cosines(external.flatten(2).transpose(1, 2)), mean_factor=1.2)
    reader = VisionTransformerReader(published.visual, ProxyAttention(weights, (side, side)), "bicubic_offset", False)
    check(reader(scene(224, 224), (), True).patch_embed, f"proxy_a_{side}")


def tiny(**arguments) -> ProxyCLIPBackbone:
    torch.manual_seed(0)
    proxy = dict(type=DINOBackbone, model="vit_tiny_patch16_224", **arguments)
    return ProxyCLIPBackbone("ViT-Ti-8-shapes", proxy=proxy)


@torch.inference_mode()
def test_patches_lie_on_the_grid_of_the_proxy():
    backbone = tiny()
    images = torch.randn(2, 3, 32, 80, generator=torch.Generator().manual_seed(0))
    features = backbone(images, layers=(2,))
    assert backbone.spec.stride == 16
    assert features.patch_embed.shape == (2, 128, 2, 5) and features.hidden[2].shape[-2:] == (4, 10)
    alone = torch.cat([backbone(image[None]).patch_embed for image in images])
    torch.testing.assert_close(features.patch_embed, alone, atol=1e-5, rtol=1e-4)
    clip = CLIPBackbone("ViT-Ti-8-shapes", position_resize="bicubic_offset")
    clip.visual.load_state_dict(backbone.visual.state_dict())
    torch.testing.assert_close(features.image_embed, clip.eval()(images).image_embed)


@torch.inference_mode()
def test_attention_is_literal():
    backbone = tiny()
    images = torch.randn(1, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    pixels = images[0] * torch.tensor(backbone.std)[:, None, None] + torch.tensor(backbone.mean)[:, None, None]
    mean, std = (torch.tensor(values)[:, None, None] for values in (backbone.proxy.mean, backbone.proxy.std))
    external = backbone.proxy(((pixels - mean) / std)[None]).patch_embed[0].flatten(1).T  # (6, C)
    similarity = F.cosine_similarity(external[:, None], external[None], dim=-1)
    scores = 3 * (similarity - 1.2 * similarity.mean())
    weights = scores.masked_fill((scores < 0) & ~torch.eye(6, dtype=torch.bool), -torch.inf).softmax(-1)
    tower = CLIPBackbone("ViT-Ti-8-shapes", position_resize="bicubic_offset").eval()
    tower.visual.load_state_dict(backbone.visual.state_dict())
    features = tower(images, layers=(3,))
    block = tower.visual.transformer.resblocks[-1]
    tokens = block.ln_1(features.hidden[3].flatten(2).transpose(1, 2))
    values = F.linear(tokens, block.attn.in_proj_weight[384:], block.attn.in_proj_bias[384:])
    values = F.interpolate(values.transpose(1, 2).unflatten(2, (4, 6)), size=(2, 3), mode="bilinear")
    mixed = weights @ values[0].flatten(1).T
    result = tower.visual.ln_post(block.attn.out_proj(mixed)) @ tower.visual.proj
    torch.testing.assert_close(backbone(images).patch_embed[0].flatten(1).T, result, atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_packed_towers_say_the_same():
    backbone = tiny(class_attention=True)
    images = torch.randn(1, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    before = backbone(images).patch_embed, backbone.proxy(images).class_attention
    backbone.pack_linears()
    after = backbone(images).patch_embed, backbone.proxy(images).class_attention
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_dino_gives_normed_tokens_and_the_scores_of_its_class_token():
    torch.manual_seed(0)
    backbone = DINOBackbone("vit_tiny_patch16_224", class_attention=True)
    images = torch.randn(2, 3, 224, 224)
    features = backbone(images, layers=(3,))
    tokens = backbone.visual.forward_features(images)
    torch.testing.assert_close(features.image_embed, tokens[:, 0])
    torch.testing.assert_close(features.patch_embed, tokens[:, 1:].transpose(1, 2).unflatten(2, (14, 14)))
    assert set(features.hidden) == set(features.prefix) == {3}
    block = backbone.visual.blocks[-1]
    q, k, _ = block.attn.qkv(block.norm1(hidden_tokens(backbone, images, 11))).chunk(3, dim=-1)
    for head in range(3):
        part = slice(64 * head, 64 * head + 64)
        scores = (q[:, 0, None, part] * k[:, 1:, part]).sum(-1) / math.sqrt(64)
        torch.testing.assert_close(features.class_attention[:, head].flatten(1), scores, atol=1e-5, rtol=1e-4)


def hidden_tokens(backbone: DINOBackbone, images: torch.Tensor, layer: int) -> torch.Tensor:
    features = backbone(images, layers=(layer,), embed=False)
    return torch.cat([features.prefix[layer], features.hidden[layer].flatten(2).transpose(1, 2)], dim=1)


def test_other_towers_are_refused():
    with pytest.raises(ValueError, match="vision transformer, got a ModifiedResNet"):
        ProxyCLIPBackbone("RN50", proxy=dict(type=DINOBackbone, model="vit_tiny_patch16_224"))
    with pytest.raises(ValueError, match="resnet18: expected a plain vision transformer"):
        DINOBackbone("resnet18")
    with pytest.raises(ValueError, match="dinov3.*got a Eva"):
        DINOBackbone("vit_small_patch16_dinov3")
