"""Packed layers against torch's own."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from timm.layers import SwiGLUPacked
from timm.models.vision_transformer import Block
from torch import nn

from openvocab.backbones.clip import CLIPBackbone
from openvocab.backbones.timm_backbone import TimmBackbone
from openvocab.layers import packed_linear
from openvocab.layers.packed_linear import PackedLinear, PackedSelfAttention, can_pack, pack_linears

SMALL = dict(embed_dim=32, depth=3, num_heads=2)
LAYERS = {"gelu": nn.GELU(), "swish": nn.SiLU(), "none": nn.Identity()}


@pytest.fixture(params=[True, False], ids=["packed", "plain"])
def packing(request, monkeypatch):
    """As here, and as where the processor cannot: layers that were packed elsewhere compute as torch does."""
    if not request.param:
        monkeypatch.setattr(packed_linear, "can_pack", lambda dtype: False)
    elif not can_pack(torch.float32):
        pytest.skip("no oneDNN here")
    return request.param


@pytest.mark.parametrize("activation", LAYERS)
@pytest.mark.parametrize("shape", [(2, 5, 24), (24,), (1, 24), (0, 24), (3, 1, 7, 24)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_packed_layer_is_the_layer_and_its_activation(packing, activation, shape, bias):
    torch.manual_seed(0)
    linear, x = nn.Linear(24, 40, bias=bias), torch.randn(shape)
    with torch.no_grad():
        expected = LAYERS[activation](F.linear(x, linear.weight, linear.bias))
        torch.testing.assert_close(PackedLinear(linear, activation)(x), expected, rtol=1e-5, atol=1e-6)


def test_strided_inputs_are_read_in_their_order(packing):
    torch.manual_seed(0)
    linear, x = nn.Linear(6, 5), torch.randn(2, 6, 7).transpose(1, 2)
    with torch.no_grad():
        torch.testing.assert_close(PackedLinear(linear)(x), linear(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("activation", LAYERS)
def test_the_gradient_of_the_input_is_that_of_the_layer(packing, activation):
    torch.manual_seed(0)
    linear, inputs = nn.Linear(24, 40), [torch.randn(3, 5, 24).requires_grad_() for _ in range(2)]
    inputs[1].data.copy_(inputs[0])
    LAYERS[activation](linear(inputs[0])).square().sum().backward()
    PackedLinear(linear, activation)(inputs[1]).square().sum().backward()
    torch.testing.assert_close(inputs[1].grad, inputs[0].grad)


def test_the_gradient_reaches_the_image_through_a_packed_tower(packing):
    torch.manual_seed(0)
    backbone, images = CLIPBackbone("ViT-Ti-8-shapes").eval(), torch.randn(1, 3, 32, 32).requires_grad_()
    (expected,) = torch.autograd.grad(backbone(images).patch_embed.square().sum(), images)
    backbone.pack_linears()
    (got,) = torch.autograd.grad(backbone(images).patch_embed.square().sum(), images)
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
def test_copies_compute_the_same_bits(packing, again):
    layer, x = PackedLinear(nn.Linear(24, 40), "gelu"), torch.randn(9, 24)
    assert again(layer)(x).equal(layer(x))


def test_a_cast_layer_computes_in_the_new_type(packing):
    linear, x = nn.Linear(24, 40), torch.randn(9, 24)
    layer = PackedLinear(linear).to(torch.bfloat16)
    assert layer.weight.equal(linear.weight.bfloat16())
    got = layer(x.bfloat16())
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.float(), linear(x), rtol=0.05, atol=0.05)


@pytest.mark.parametrize(
    "make",
    [
        lambda: CLIPBackbone("ViT-Ti-8-shapes"),
        lambda: CLIPBackbone("ViT-Ti-8-shapes", readout="naclip"),
        lambda: CLIPBackbone("ViT-Ti-8-shapes", readout="scclip"),
        lambda: CLIPBackbone("ViT-Ti-8-shapes", readout=dict(type="rfclip", sink_channels=(3, 50))),
        lambda: TimmBackbone("vit_tiny_patch16_384", model_args=SMALL),
        lambda: TimmBackbone("vit_medium_patch16_gap_240", model_args=dict(SMALL, qk_norm=True)),
    ],
    ids=["open_clip", "readout", "scclip", "rfclip", "timm", "timm-qk-norm"],
)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 3e-2)])
def test_a_packed_tower_says_the_same(make, dtype, tolerance):
    if not can_pack(dtype):
        pytest.skip(f"no packed {dtype} here")
    torch.manual_seed(0)
    backbone = make().eval()
    images = torch.randn(2, 3, 64, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = backbone(images, (1, 3))
        backbone.to(dtype).pack_linears()
        got = backbone(images, (1, 3))
    assert any(isinstance(part, PackedLinear) for part in backbone.modules())
    for layer in (1, 3):
        error = (got.hidden[layer].float() - expected.hidden[layer]).norm() / expected.hidden[layer].norm()
        assert error < tolerance
    if expected.patch_embed is not None:
        assert (got.patch_embed.float() - expected.patch_embed).norm() / expected.patch_embed.norm() < tolerance


def test_blocks_that_normalize_their_queries_keep_their_attention():
    torch.manual_seed(0)
    block = Block(32, 2, qk_norm=True).eval()
    tokens = torch.randn(1, 9, 32)
    with torch.inference_mode():
        expected = block(tokens)
        pack_linears(block)
        torch.testing.assert_close(block(tokens), expected, rtol=1e-5, atol=1e-6)
    assert not any(isinstance(part, PackedSelfAttention) for part in block.modules())


def test_the_activation_of_a_gated_network_stays_on_its_half():
    """SwiGLU, as in the giant DINOv2: fused into the first layer, it would also change the half that is gated."""
    torch.manual_seed(0)
    block = Block(32, 2, mlp_layer=SwiGLUPacked, act_layer=nn.SiLU).eval()
    tokens = torch.randn(1, 9, 32)
    with torch.inference_mode():
        expected = block(tokens)
        pack_linears(block)
        torch.testing.assert_close(block(tokens), expected, rtol=1e-5, atol=1e-6)


def test_where_packing_does_not_work_nothing_is_changed(monkeypatch):
    monkeypatch.setattr(packed_linear, "can_pack", lambda dtype: False)
    block = Block(32, 2)
    state = block.state_dict()
    pack_linears(block)
    assert block.state_dict().keys() == state.keys()


def test_types_without_a_fast_product_are_not_packed():
    assert not can_pack(torch.float16) and not can_pack(torch.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_packed_tower_works_within_the_autocast_of_a_host(dtype):
    torch.manual_seed(0)
    backbone = CLIPBackbone("ViT-Ti-8-shapes").eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        expected = backbone(images).image_embed
        backbone.to(dtype).pack_linears()
        with torch.autocast("cpu", torch.bfloat16):
            embed = backbone(images).image_embed
    assert torch.nn.functional.cosine_similarity(embed.float(), expected).min() > 0.99
