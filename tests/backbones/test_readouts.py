"""Readouts against their equations, written out with loops in float64."""

import math

import numpy as np
import pytest
import torch
from open_clip.modified_resnet import AttentionPool2d

from openvocab.backbones.clip import CLIPBackbone
from openvocab.backbones.readouts import AttentionReadout, build_readout, known_readouts
from openvocab.backbones.readouts.naclip import gaussian_window
from openvocab.layers import attention
from openvocab.layers.attention import attend

GRID = (2, 3)
IMAGES_SIZE = (16, 24)
ATTENTION = [name for name in known_readouts() if isinstance(build_readout(name), AttentionReadout)]


def similarity(a: np.ndarray, b: np.ndarray, i: int, bias: np.ndarray | None = None) -> np.ndarray:
    """Row i of softmax(a bT / sqrt(d) + bias)."""
    scores = np.array(
        [sum(a[i, c] * b[j, c] for c in range(a.shape[1])) / math.sqrt(a.shape[1]) for j in range(len(b))]
    )
    if bias is not None:
        scores = scores + bias[i]
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def literal_window() -> np.ndarray:
    height, width = GRID
    window = np.zeros((1 + height * width, 1 + height * width))
    for i in range(height * width):
        for j in range(height * width):
            distance = (i // width - j // width) ** 2 + (i % width - j % width) ** 2
            window[1 + i, 1 + j] = math.exp(-distance / (2 * 5.0**2))
    return window


def literal_row(name: str, q: np.ndarray, k: np.ndarray, i: int) -> np.ndarray:
    if name == "clip":
        return similarity(q, k, i)
    if name in ("value", "maskclip"):
        return np.eye(len(q))[i]
    if name == "sclip":
        return similarity(q, q, i) + similarity(k, k, i)
    if name == "clearclip":
        return similarity(q, q, i)
    return similarity(k, k, i, literal_window())


def layer_norm(x: np.ndarray, norm: torch.nn.LayerNorm) -> np.ndarray:
    centered = x - x.mean(-1, keepdims=True)
    normal = centered / np.sqrt((centered**2).mean(-1, keepdims=True) + norm.eps)
    return normal * norm.weight.double().numpy() + norm.bias.double().numpy()


def literal_patch_embed(name: str, backbone: CLIPBackbone, tokens: np.ndarray) -> np.ndarray:
    """(h * w, D) from the tokens (N, C) that enter the last block."""
    visual = backbone.visual.double()
    block = visual.transformer.resblocks[-1]
    packed = layer_norm(tokens, block.ln_1) @ block.attn.in_proj_weight.numpy().T + block.attn.in_proj_bias.numpy()
    q, k, v = np.split(packed, 3, axis=-1)
    width = q.shape[1] // block.attn.num_heads
    mixed = np.zeros_like(v)
    for head in range(block.attn.num_heads):
        part = slice(head * width, (head + 1) * width)
        for i in range(len(tokens)):
            weights = literal_row(name, q[:, part], k[:, part], i)
            mixed[i, part] = sum(weights[j] * v[j, part] for j in range(len(tokens)))
    out = mixed @ block.attn.out_proj.weight.numpy().T + block.attn.out_proj.bias.numpy()
    if name in ("clip", "maskclip", "sclip"):
        out = tokens + out
        out = out + block.mlp(torch.from_numpy(layer_norm(out, block.ln_2))).numpy()
    return layer_norm(out[1:], visual.ln_post) @ visual.proj.numpy()


@torch.no_grad()
@pytest.mark.parametrize("name", ATTENTION)
def test_readout_equals_its_equation(name):
    torch.manual_seed(0)
    backbone = CLIPBackbone("ViT-Ti-8-shapes", readout=name)
    for parameter in backbone.visual.transformer.resblocks[-1].parameters():
        parameter.add_(0.1 * torch.randn_like(parameter))  # attention far from uniform, biases not zero
    images = torch.randn(1, 3, *IMAGES_SIZE)
    features = backbone(images, layers=(3,))
    tokens = torch.cat([features.prefix[3][0], features.hidden[3][0].flatten(1).T]).double().numpy()
    actual = features.patch_embed[0].flatten(1).T.double().numpy()
    expected = literal_patch_embed(name, backbone, tokens)
    np.testing.assert_allclose(actual, expected, atol=1e-5 * abs(expected).max())


@torch.no_grad()
def test_maskclip_gives_the_keys_of_the_last_attention_behind_its_output_projection():
    torch.manual_seed(0)
    backbone = CLIPBackbone("ViT-Ti-8-shapes", readout="maskclip")
    features = backbone(torch.randn(1, 3, *IMAGES_SIZE), layers=(3,))
    block = backbone.visual.transformer.resblocks[-1]
    width = block.attn.embed_dim
    weight, bias = block.attn.in_proj_weight[width : 2 * width], block.attn.in_proj_bias[width : 2 * width]
    for row in range(GRID[0]):
        for column in range(GRID[1]):
            key = weight @ block.ln_1(features.hidden[3][0, :, row, column]) + bias
            torch.testing.assert_close(features.patch_keys[0, :, row, column], block.attn.out_proj(key))


@pytest.fixture(scope="module", params=["ViT-Ti-8-shapes", "RN50"])
def backbone(request) -> CLIPBackbone:
    torch.manual_seed(0)
    backbone = CLIPBackbone(request.param)
    for part in backbone.visual.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(part.weight, 0.5, 1.5)  # open_clip starts residual branches at zero
        if isinstance(part, AttentionPool2d):
            part.q_proj.weight.data *= 20  # far from uniform attention
    return backbone


@torch.no_grad()
@pytest.mark.parametrize("name", known_readouts())
def test_readout_leaves_pooled_and_hidden_features_alone(name, backbone):
    if name == "rfclip":
        pytest.skip("its tower is damped")
    if name not in ATTENTION and not hasattr(backbone.visual, "transformer"):
        pytest.skip("reads the blocks of a vision transformer")
    images = torch.randn(1, 3, 64, 96)
    backbone.reader.readout = build_readout("clip")
    expected = backbone(images, layers=(4,))
    backbone.reader.readout = build_readout(name)
    features = backbone(images)
    torch.testing.assert_close(features.image_embed, expected.image_embed, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(backbone(images, layers=(4,)).hidden[4], expected.hidden[4], atol=1e-5, rtol=1e-4)
    assert features.patch_embed.shape == expected.patch_embed.shape
    changed = (features.patch_embed - expected.patch_embed).abs().max()
    assert changed == 0 if name == "clip" else changed > 1e-4


def make(name: str, model: str = "ViT-Ti-8-shapes") -> CLIPBackbone:
    """A tower far from uniform attention, whose patches are more and less alike."""
    torch.manual_seed(0)
    readout = dict(type=name, sink_channels=(3, 50)) if name == "rfclip" else name
    backbone = CLIPBackbone(model, readout=readout).eval()
    for parameter in backbone.visual.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return backbone


@torch.no_grad()
@pytest.mark.parametrize("name", known_readouts())
@pytest.mark.parametrize("size", [(64, 64), (40, 104), (8, 24), (8, 8)])
def test_a_batch_says_what_its_images_say(name, size):
    backbone = make(name)
    images = torch.randn(3, 3, *size, generator=torch.Generator().manual_seed(1))
    together = backbone(images).patch_embed
    assert together.shape == (3, backbone.spec.embed_dim, size[0] // 8, size[1] // 8) and together.isfinite().all()
    alone = torch.cat([backbone(image[None]).patch_embed for image in images])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("name", known_readouts())
def test_rows_and_columns_are_not_mixed_up(name):
    backbone = make(name)
    visual = backbone.visual
    visual.positional_embedding.data[1:] = 0
    visual.conv1.weight.data.add_(visual.conv1.weight.data.transpose(2, 3).clone())
    images = torch.randn(1, 3, 40, 96, generator=torch.Generator().manual_seed(1))
    expected = backbone(images).patch_embed.transpose(2, 3)
    torch.testing.assert_close(backbone(images.transpose(2, 3)).patch_embed, expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("name", known_readouts())
def test_an_image_of_one_color_has_finite_embeddings(name):
    backbone = make(name)
    backbone.visual.positional_embedding.data[1:] = 0  # all patches equal
    assert backbone(torch.zeros(1, 3, 40, 64)).patch_embed.isfinite().all()


def test_readouts_that_a_tower_does_not_fit_say_so():
    with pytest.raises(ValueError, match="ResNet only has its pool"):
        CLIPBackbone("RN50", readout="scclip")
    with pytest.raises(ValueError, match="width 192 needs its own sink_channels"):
        CLIPBackbone("ViT-Ti-8-shapes", readout="rfclip")
    with pytest.raises(ValueError, match="192"):
        CLIPBackbone("ViT-Ti-8-shapes", readout=dict(type="rfclip", sink_channels=(192,)))


def test_gaussian_window_is_literal():
    torch.testing.assert_close(gaussian_window(GRID, 7, 5.0).double(), torch.from_numpy(literal_window()))


def test_half_precision_attention_equals_the_fused_one(monkeypatch):
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, 10, 8, dtype=torch.bfloat16) for _ in range(3))
    bias = torch.randn(10, 10, dtype=torch.bfloat16)
    monkeypatch.setattr(attention, "SCORES_AT_ONCE", 2 * 10 * 10)  # two heads at a time
    for extra in (None, bias):
        expected = torch.nn.functional.scaled_dot_product_attention(
            q.float(), k.float(), v.float(), attn_mask=None if extra is None else extra.float()
        )
        torch.testing.assert_close(attend(q, k, v, extra).float(), expected, atol=0.03, rtol=0.03)


def test_unknown_readout_lists_the_known_ones():
    with pytest.raises(ValueError, match="'proxy'; known: clearclip, clip, maskclip, naclip, .*value"):
        build_readout("proxy")
    with pytest.raises(ValueError, match="known: .*maskclip"):
        CLIPBackbone("ViT-Ti-8-shapes", readout=dict(type="proxy"))


def test_a_readout_takes_arguments():
    backbone = CLIPBackbone("ViT-Ti-8-shapes", readout=dict(type="naclip", std=2.0))
    assert backbone.reader.readout.std == 2.0
    with pytest.raises(ValueError, match="std.*-1"):
        build_readout(dict(type="naclip", std=-1))
    with pytest.raises(TypeError, match="expected a name"):
        build_readout(5)
