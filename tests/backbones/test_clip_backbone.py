import copy
import math

import pytest
import torch
from random_batch_norms import randomise_batch_norms
from torch import nn

from openvocab.backbones.clip import CLIPBackbone
from openvocab.backbones.readouts import build_readout
from openvocab.layers import attention
from openvocab.layers.positions import POSITION_RESIZE_MODES, resize_positions

TINY = "ViT-Ti-8-shapes"


def make(model: str = TINY, **arguments) -> CLIPBackbone:
    torch.manual_seed(0)
    backbone = CLIPBackbone(model, **arguments)
    randomise_batch_norms(backbone.visual)
    return backbone


@pytest.fixture(scope="module")
def tiny() -> CLIPBackbone:
    return make()


@pytest.fixture(scope="module")
def resnet() -> CLIPBackbone:
    return make("RN50", readout="maskclip")


@pytest.fixture(scope="module")
def convnext() -> CLIPBackbone:
    return make("convnext_tiny")


def every_layer(backbone: CLIPBackbone) -> range:
    return range(len(backbone.spec.hidden_dims))


def trained_names(backbone: CLIPBackbone) -> set[str]:
    return {name for name, parameter in backbone.visual.named_parameters() if parameter.requires_grad}


# The tower itself, run by open_clip's own forward, is the reference: the backbone only reads it.
@pytest.mark.parametrize(
    "model", ["ViT-B-32", "ViT-B-32-quickgelu", "ViT-B-16", "ViT-B-16-quickgelu", "RN50", "convnext_tiny"]
)
def test_pooled_embedding_at_native_size_equals_open_clip(model):
    backbone = make(model)
    size = backbone.visual.image_size if isinstance(backbone.visual.image_size, int) else backbone.visual.image_size[0]
    images = torch.randn(1, 3, size, size)
    with torch.no_grad():
        expected = backbone.visual(images)
        torch.testing.assert_close(backbone(images).image_embed, expected, atol=1e-5, rtol=1e-5)


def test_activation_changes_the_embedding():
    gelu, quick = make("ViT-B-32"), make("ViT-B-32-quickgelu")
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert (gelu(images).image_embed - quick(images).image_embed).abs().max() > 1e-3


def test_hidden_maps_equal_the_outputs_of_open_clips_blocks(tiny):
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        features = tiny(images, layers=every_layer(tiny))
        expected = tiny.visual.forward_intermediates(images, indices=None, output_extra_tokens=True)
        entering = tiny.visual._embeds(images)
    torch.testing.assert_close(features.hidden[0].flatten(2).transpose(1, 2), entering[:, 1:])
    torch.testing.assert_close(features.prefix[0], entering[:, :1])
    for i, (hidden, prefix) in enumerate(
        zip(expected["image_intermediates"], expected["image_intermediates_prefix"]), 1
    ):
        torch.testing.assert_close(features.hidden[i], hidden)
        torch.testing.assert_close(features.prefix[i], prefix)


def test_only_the_layers_asked_for_are_kept(tiny, resnet):
    with torch.no_grad():
        assert set(tiny(torch.randn(1, 3, 64, 64), layers=(0, 3)).hidden) == {0, 3}
        assert resnet(torch.randn(1, 3, 64, 64)).hidden == {}


@pytest.mark.parametrize("name", ["tiny", "resnet", "convnext"])
@pytest.mark.parametrize("size", [(96, 160), (32, 64)])
def test_any_size_divisible_by_the_stride_gives_the_announced_shapes(name, size, request):
    backbone = request.getfixturevalue(name)
    with torch.no_grad():
        features = backbone(torch.randn(2, 3, *size), layers=every_layer(backbone))
    dim, stride = backbone.spec.embed_dim, backbone.spec.stride
    assert features.image_embed.shape == (2, dim)
    assert features.patch_embed.shape == (2, dim, size[0] // stride, size[1] // stride)
    for i, (channels, step) in enumerate(zip(backbone.spec.hidden_dims, backbone.spec.hidden_strides)):
        assert features.hidden[i].shape == (2, channels, size[0] // step, size[1] // step)
    assert features.input_size == size


def test_convnext_hidden_maps_are_its_stages(convnext):
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        features = convnext(images, layers=range(5))
        stages = convnext.visual.trunk.forward_intermediates(images, intermediates_only=True)
        torch.testing.assert_close(features.hidden[0], convnext.visual.trunk.stem(images))
    for i, stage in enumerate(stages, 1):
        torch.testing.assert_close(features.hidden[i], stage)


def test_one_place_of_a_convnext_has_the_pooled_embedding(convnext):
    with torch.no_grad():
        features = convnext(torch.randn(2, 3, 32, 32))
    torch.testing.assert_close(features.patch_embed[:, :, 0, 0], features.image_embed)


def test_resnet_hidden_maps_are_its_stages(resnet):
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        features = resnet(images, layers=range(5))
        stages = resnet.visual.forward_intermediates(images, intermediates_only=True)["image_intermediates"]
    for i, stage in enumerate(stages):
        torch.testing.assert_close(features.hidden[i], stage)


@pytest.mark.parametrize(("readout", "positions"), [("value", True), ("maskclip", False)])
def test_resnet_values_are_projected_place_by_place(resnet, readout, positions):
    pool, images = resnet.visual.attnpool, torch.randn(1, 3, 224, 224)
    before, resnet.reader.readout = resnet.reader.readout, build_readout(readout)
    with torch.no_grad():
        features = resnet(images, layers=(4,))
        for row, column in ((0, 0), (2, 5)):
            cell = features.hidden[4][0, :, row, column]
            if positions:
                cell = cell + pool.positional_embedding[1 + 7 * row + column]
            expected = pool.c_proj(pool.v_proj(cell))
            torch.testing.assert_close(features.patch_embed[0, :, row, column], expected, atol=1e-5, rtol=1e-4)
        if readout == "maskclip":
            torch.testing.assert_close(features.patch_keys[0, :, 2, 5], pool.k_proj(cell), atol=1e-5, rtol=1e-4)
    resnet.reader.readout = before


@pytest.mark.parametrize("name", ["resnet", "convnext"])
@pytest.mark.parametrize("size", [(224, 224), (64, 96)])
def test_pooling_the_whole_last_map_gives_the_image_embedding(name, size, request):
    backbone = request.getfixturevalue(name)
    last = len(backbone.spec.hidden_dims) - 1
    with torch.no_grad():
        features = backbone(torch.randn(2, 3, *size), layers=(last,))
        torch.testing.assert_close(features.pool(features.hidden[last]), features.image_embed, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["resnet", "convnext"])
def test_each_region_is_pooled_by_itself(name, request):
    backbone = request.getfixturevalue(name)
    regions = torch.randn(3, backbone.spec.hidden_dims[-1], 7, 7)
    with torch.no_grad():
        pool = backbone(torch.randn(1, 3, 64, 64)).pool
        together = pool(regions)
        alone = torch.cat([pool(region[None]) for region in regions])
        assert pool(regions[:0]).shape == (0, backbone.spec.embed_dim)
    assert together.shape == (3, backbone.spec.embed_dim)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_a_vision_transformer_pools_no_regions(tiny):
    with torch.no_grad():
        assert tiny(torch.randn(1, 3, 64, 64)).pool is None


def test_positions_are_kept_at_the_native_grid():
    positions = torch.randn(1 + 6, 5)
    assert resize_positions(positions, (2, 3), (2, 3)) is positions


@pytest.mark.parametrize("method", POSITION_RESIZE_MODES)
def test_resized_positions_keep_prefix_and_constants(method):
    positions = torch.randn(1, 4).expand(1 + 16, 4).clone()
    positions[0] = 7.0
    resized = resize_positions(positions, (4, 4), (6, 9), method)
    assert resized.shape == (1 + 54, 4)
    assert torch.equal(resized[0], positions[0])
    torch.testing.assert_close(resized[1:], positions[1:2].expand(54, 4))


def test_resized_positions_follow_the_axes():
    grid = torch.stack(torch.meshgrid(torch.arange(4.0), torch.arange(8.0), indexing="ij"), -1)  # (4, 8, 2)
    resized = resize_positions(grid.reshape(32, 2), (4, 8), (8, 16), "bilinear").view(8, 16, 2)
    expected_rows = (torch.arange(8) + 0.5) / 2 - 0.5
    torch.testing.assert_close(resized[1:-1, 5, 0], expected_rows[1:-1])
    assert (resized[3, 1:-1, 1].diff() > 0).all() and resized[3, :, 0].std() < 1e-6


def cubic_weight(x: float) -> float:
    """Keys' kernel with torch's a = -0.75."""
    x, a = abs(x), -0.75
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


@pytest.mark.parametrize("rows", [9, 15, 21])
def test_offset_factors_place_the_samples(rows):
    column = torch.randn(14)
    grid = column[:, None].expand(14, 14).reshape(196, 1)  # equal along a row, so that one axis decides
    resized = resize_positions(grid, (14, 14), (rows, 20), "bicubic_offset").view(rows, 20)
    for target in range(rows):
        source = (target + 0.5) / ((rows + 0.1) / 14) - 0.5
        first = math.floor(source)
        near = range(first - 1, first + 3)
        value = sum(cubic_weight(source - i) * float(column[min(max(i, 0), 13)]) for i in near)
        assert float(resized[target, 3]) == pytest.approx(value, abs=1e-5)


def test_position_resize_follows_the_readout():
    assert make().reader.position_resize == "bicubic"
    assert make(readout="naclip").reader.position_resize == "bicubic_offset"
    assert make(readout="maskclip").reader.position_resize == "bicubic_plain"
    assert make(readout="naclip", position_resize="bilinear").reader.position_resize == "bilinear"


def test_bicubic_positions_are_open_clips(tiny):
    from open_clip.model import resize_pos_embed

    class Model:
        visual = type("Visual", (), {"grid_size": (12, 20)})

    positions = tiny.visual.positional_embedding.detach()
    state = {"visual.positional_embedding": positions}
    resize_pos_embed(state, Model)
    torch.testing.assert_close(resize_positions(positions, (8, 8), (12, 20)), state["visual.positional_embedding"])


def test_nothing_is_trained_by_default():
    backbone = make().train()
    assert trained_names(backbone) == set()
    assert not any(part.training for part in backbone.visual.modules())
    features = backbone(torch.randn(1, 3, 64, 64), layers=(0, 4))
    assert not features.patch_embed.requires_grad and not features.hidden[4].requires_grad


def test_attention_alone_is_trained():
    names = trained_names(make(trainable="attention"))
    assert names and all(".attn." in name for name in names)
    assert len(names) == 4 * 4


def test_everything_is_trained():
    backbone = make(trainable="all").train()
    assert trained_names(backbone) == {name for name, _ in backbone.visual.named_parameters()}
    assert all(part.training for part in backbone.visual.modules())


def test_last_blocks_are_trained_and_earlier_ones_keep_no_graph():
    backbone = make(trainable=1).train()
    assert all(name.startswith(("transformer.resblocks.3", "ln_post", "proj")) for name in trained_names(backbone))
    features = backbone(torch.randn(1, 3, 64, 64), layers=(3, 4))
    assert not features.hidden[3].requires_grad and features.hidden[4].requires_grad
    features.patch_embed.sum().backward()
    reached = {name for name, parameter in backbone.visual.named_parameters() if parameter.grad is not None}
    assert reached == trained_names(backbone)
    assert not backbone.visual.transformer.resblocks[2].training and backbone.visual.transformer.resblocks[3].training


@pytest.mark.parametrize(
    ("model", "readout"), [(TINY, "clip"), (TINY, "sclip"), ("ConvNet-8-shapes", "clip"), ("RN50", "clip")]
)
def test_without_embeddings_a_tower_stops_at_the_deepest_layer(model, readout):
    backbone = make(model, readout=readout)
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        whole = backbone(images, every_layer(backbone))
        for deepest in reversed(every_layer(backbone)):
            features = backbone(images, (deepest,), embed=False)
            assert features.image_embed is None and features.patch_embed is None and list(features.hidden) == [deepest]
            torch.testing.assert_close(features.hidden[deepest], whole.hidden[deepest])
            for parameter in backbone.reader.blocks[deepest - 1].parameters():  # not to be run from here on
                parameter.fill_(torch.nan)


def test_frozen_batch_norm_stays_in_eval_mode():
    backbone = make("RN50", trainable="attention").train()
    assert backbone.visual.attnpool.training
    assert not any(part.training for part in backbone.visual.modules() if isinstance(part, nn.BatchNorm2d))
    before = backbone.visual.bn1.running_mean.clone()
    backbone(torch.randn(1, 3, 32, 32))
    assert torch.equal(before, backbone.visual.bn1.running_mean)


def test_norm_eval_keeps_the_statistics_of_a_trained_tower():
    backbone = make("RN50", trainable="all", norm_eval=True).train()
    assert backbone.visual.layer1.training
    assert not any(part.training for part in backbone.visual.modules() if isinstance(part, nn.BatchNorm2d))


def test_gradients_reach_the_image_through_a_frozen_tower(tiny):
    images = torch.randn(1, 3, 64, 64, requires_grad=True)
    tiny(images).image_embed.sum().backward()
    assert images.grad.abs().sum() > 0


@pytest.mark.parametrize("readout", ["clip", "naclip"])
def test_checkpointing_gives_the_same_gradients(readout):
    plain = make(trainable="all", readout=readout).train()
    saving = copy.deepcopy(plain)
    saving.reader.checkpointing = True
    images = torch.randn(1, 3, 48, 64)
    for backbone in (plain, saving):
        features = backbone(images, layers=(2,))
        (features.patch_embed.square().sum() + features.hidden[2].square().mean()).backward()
    for (name, expected), actual in zip(plain.visual.named_parameters(), saving.visual.parameters()):
        torch.testing.assert_close(actual.grad, expected.grad, msg=name)


def test_checkpointing_refuses_to_update_batch_norm_twice():
    backbone = make("RN50", trainable="all", checkpointing=True).train()
    with pytest.raises(ValueError, match="batch norm"):
        backbone(torch.randn(2, 3, 64, 64))


def test_a_copy_reads_its_own_weights(tiny):
    twin = copy.deepcopy(tiny)
    with torch.no_grad():
        twin.visual.proj.zero_()
        assert twin(torch.ones(1, 3, 64, 64)).image_embed.abs().max() == 0
        assert tiny(torch.ones(1, 3, 64, 64)).image_embed.abs().max() > 0


def test_half_precision_stays_close(tiny):
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = tiny(images).patch_embed
        actual = copy.deepcopy(tiny).bfloat16()(images).patch_embed
    assert actual.dtype == torch.bfloat16
    assert (actual.float() - expected).norm() < 0.03 * expected.norm()


def test_statistics_are_of_pixels_from_0_to_255(tiny):
    assert tiny.mean == pytest.approx([122.7709, 116.7460, 104.0937], abs=1e-3)
    assert tiny.std == pytest.approx([68.5005, 66.6322, 70.3232], abs=1e-3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"readout": "magic"}, "naclip"),
        ({"trainable": "some"}, "attention"),
        ({"trainable": 5}, "from 1 to 4"),
        ({"trainable": 0}, "from 1 to 4"),
        ({"position_resize": "nearest"}, "bicubic"),
    ],
)
def test_bad_arguments_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        CLIPBackbone(TINY, **arguments)


def test_towers_without_attention_are_named():
    with torch.device("meta"):
        with pytest.raises(ValueError, match="attention"):
            CLIPBackbone("convnext_tiny", readout="maskclip")
        with pytest.raises(ValueError, match="no attention"):
            CLIPBackbone("convnext_tiny", trainable="attention")


def test_wrong_sizes_and_layers_are_named(tiny):
    with pytest.raises(ValueError, match="60x64.*stride 8"):
        tiny(torch.randn(1, 3, 60, 64))
    with pytest.raises(ValueError, match="5"):
        tiny(torch.randn(1, 3, 64, 64), layers=(5,))


@pytest.mark.parametrize("length", [9, 500])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("precision", ["highest", "medium"])
@pytest.mark.parametrize("native", [True, False])
def test_attention_is_the_same_by_every_path(monkeypatch, length, dtype, tolerance, precision, native):
    monkeypatch.setattr(attention, "has_native_bfloat16", lambda: native)
    q, k, v = torch.randn(3, 2, 2, length, 8, generator=torch.Generator().manual_seed(0))
    bias = torch.full((length, length), -torch.inf).triu(1)
    expected = (q.double() @ k.double().mT / 8**0.5 + bias).softmax(-1) @ v.double()
    torch.set_float32_matmul_precision(precision)
    try:
        with torch.no_grad():
            got = attention.attend(*(part.to(dtype) for part in (q, k, v)), bias.to(dtype))
    finally:
        torch.set_float32_matmul_precision("highest")
    torch.testing.assert_close(got.double(), expected, rtol=tolerance, atol=tolerance)


def test_a_processor_that_may_not_use_bfloat16_has_none(monkeypatch):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE")
    attention.has_native_bfloat16.cache_clear()
    assert not attention.has_native_bfloat16()
    monkeypatch.undo()
    attention.has_native_bfloat16.cache_clear()
