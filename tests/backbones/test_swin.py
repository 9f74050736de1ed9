"""Swin at any size: timm's where both are equal, transformers' at other sizes, weights, frozen parts and mistakes."""

from pathlib import Path

import pytest
import timm
import torch

from openvocab.backbones.swin import SwinBackbone

SMALL = dict(dim=12, depths=(2, 2, 2), heads=(1, 2, 3), window=4, output_norms=(2, 3))


def enliven(module: torch.nn.Module) -> torch.nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return module.eval()


def small(**arguments) -> SwinBackbone:
    torch.manual_seed(0)
    return enliven(SwinBackbone(**(SMALL | arguments)))


def images(*size: int, batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(1))


def timm_swin(**arguments) -> torch.nn.Module:
    kept = dict(img_size=64, window_size=4, embed_dim=12, depths=(2, 2, 2), num_heads=(1, 2, 3), num_classes=5)
    return enliven(timm.create_model("swin_tiny_patch4_window7_224", pretrained=False, **(kept | arguments)))


@torch.no_grad()
def test_it_is_timms_where_maps_consist_of_whole_windows(tmp_path: Path):
    theirs = timm_swin(img_size=(128, 192))
    torch.save(theirs.state_dict(), tmp_path / "timm.pth")
    ours = SwinBackbone(**SMALL | dict(output_norms=()), pretrained=tmp_path / "timm.pth").eval()
    x = images(128, 192)
    features = ours(x, (0, 1, 2, 3)).hidden
    maps = theirs.patch_embed(x)
    torch.testing.assert_close(features[0], maps.permute(0, 3, 1, 2))
    for number, stage in enumerate(theirs.layers, start=1):
        maps = stage(maps)
        torch.testing.assert_close(features[number], maps.permute(0, 3, 1, 2), rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("size", [(256, 320), (64, 32), (96, 160)])
def test_it_is_transformers_at_other_sizes(size):
    """transformers pads before it shifts, as the official detectors do; timm shifts before it pads."""
    transformers = pytest.importorskip("transformers")
    config = transformers.SwinConfig(
        embed_dim=12, depths=[2, 2, 2], num_heads=[1, 2, 3], window_size=7, out_features=["stage2", "stage3"],
        layer_norm_eps=1e-5,
    )  # fmt: skip
    theirs = enliven(transformers.SwinBackbone(config))
    ours = SwinBackbone(**SMALL | dict(window=7)).eval()
    state = {}
    source = theirs.state_dict()
    for name in ours.state_dict():
        state[name] = of_transformers(name, source)
    ours.load_state_dict(state)
    x = images(*size, batch=2)
    expected = theirs(x).feature_maps
    features = ours(x, (2, 3)).hidden
    for number, level in zip((2, 3), expected, strict=True):
        torch.testing.assert_close(features[number], level, rtol=1e-4, atol=1e-4)


def of_transformers(name: str, source) -> torch.Tensor:
    """The entry of transformers' backbone for one of ours."""
    prefix = "" if any(key.startswith("embeddings.") for key in source) else "swin."
    kind = name.rsplit(".", 1)[1]
    if name.startswith("output_norms"):
        return source[f"hidden_states_norms.stage{name.split('.')[1]}.{kind}"]
    if name.startswith("patch_embed.proj"):
        return source[f"{prefix}embeddings.patch_embeddings.projection.{kind}"]
    if name.startswith("patch_embed.norm"):
        return source[f"{prefix}embeddings.norm.{kind}"]
    stage, rest = name.removeprefix("stages.").split(".", 1)
    layer = f"{prefix}encoder.layers.{stage}."
    if rest.startswith("downsample"):
        return source[layer + rest]
    block = layer + rest.split(".")[0] + "." + rest.split(".")[1] + "."
    part = rest.split(".", 2)[2]
    if part.startswith("attn.qkv"):
        return torch.cat([find(source, block, letter, kind) for letter in ("q", "k", "v")])
    spots = {
        "attn.proj": ("attention.o_proj", "attention.output.dense"),
        "norm1": ("layernorm_before",),
        "norm2": ("layernorm_after",),
        "mlp.fc1": ("mlp.fc1", "intermediate.dense"),
        "mlp.fc2": ("mlp.fc2", "output.dense"),
    }
    if part == "attn.relative_position_bias_table":
        return next(source[key] for key in source if key.startswith(block) and key.endswith("bias_table"))
    names = spots[part.rsplit(".", 1)[0]]
    return next(source[f"{block}{other}.{kind}"] for other in names if f"{block}{other}.{kind}" in source)


def find(source, block: str, letter: str, kind: str) -> torch.Tensor:
    word = {"q": "query", "k": "key", "v": "value"}[letter]
    names = (f"{block}attention.{letter}_proj.{kind}", f"{block}attention.self.{word}.{kind}")
    return next(source[name] for name in names if name in source)


def test_a_file_in_the_official_layout_is_read_and_its_classifier_skipped(tmp_path: Path):
    source = small()
    official = {name.replace("stages.", "layers."): value for name, value in source.state_dict().items()}
    official = {name: value for name, value in official.items() if not name.startswith("output_norms")}
    extra = {"norm.weight": torch.ones(48), "head.bias": torch.ones(1000)}
    extra |= {
        "layers.0.blocks.1.attn_mask": torch.ones(2),
        "layers.0.blocks.0.attn.relative_position_index": torch.ones(2),
    }
    torch.save({"model": official | extra}, tmp_path / "swin.pth")
    loaded = SwinBackbone(**SMALL, pretrained=tmp_path / "swin.pth")
    for name, value in loaded.state_dict().items():
        expected = source.state_dict()[name]
        assert torch.equal(value, torch.ones_like(value) * name.endswith("weight") if "output" in name else expected)
    with pytest.raises(ValueError, match=r"swin\.pth does not fit this Swin, nothing was loaded"):
        SwinBackbone(**SMALL | dict(window=5), pretrained=tmp_path / "swin.pth")
    with pytest.raises(FileNotFoundError, match="no such file"):
        SwinBackbone(**SMALL, pretrained=tmp_path / "absent.pth")


@torch.no_grad()
def test_maps_have_the_stated_widths_and_strides_at_any_size():
    backbone = small()
    assert backbone.spec.stride == 16 and backbone.spec.hidden_strides == (4, 4, 8, 16)
    for size in ((16, 16), (48, 80), (112, 16)):
        hidden = backbone(images(*size, batch=2), range(4)).hidden
        for i, level in hidden.items():
            stride = backbone.spec.hidden_strides[i]
            assert level.shape == (2, backbone.spec.hidden_dims[i], size[0] // stride, size[1] // stride)


@torch.no_grad()
def test_an_image_is_alone_what_it_is_in_a_batch():
    backbone, x = small(), images(48, 80, batch=3)
    for level, batch in ((backbone(x[1:2], (3,)).hidden[3], backbone(x, (3,)).hidden[3]),):
        torch.testing.assert_close(level, batch[1:2], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_stage_continues_from_the_map_before_its_output_norm():
    x = images(64, 64)
    normed, plain = small(), small(output_norms=())
    plain.load_state_dict({name: value for name, value in normed.state_dict().items() if "output" not in name})
    maps = plain(x, (1, 2, 3)).hidden
    features = normed(x, (1, 2, 3)).hidden
    torch.testing.assert_close(features[1], maps[1])  # has no norm
    for stage in (2, 3):
        expected = normed.output_norms[str(stage)](maps[stage].permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        torch.testing.assert_close(features[stage], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_packed_layers_give_the_same_maps():
    backbone, x = small(), images(48, 80)
    expected = backbone(x, (2, 3)).hidden
    backbone.pack_linears()
    torch.testing.assert_close(backbone(x, (2, 3)).hidden, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_half_precision_stays_near_float32(dtype):
    backbone, x = small(), images(48, 80)
    exact = backbone(x, (3,)).hidden[3]
    rough = backbone.to(dtype)(x, (3,)).hidden[3]
    assert rough.dtype == dtype and (rough.float() - exact).norm() < 0.05 * exact.norm()


def test_autocast_trains():
    backbone = small(drop_path=0.1).train()
    with torch.autocast("cpu", torch.bfloat16):
        maps = backbone(images(48, 80, batch=2), (2, 3)).hidden
    sum(level.float().square().mean() for level in maps.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in backbone.parameters())


def test_the_embedding_and_the_first_stage_can_be_frozen():
    backbone = SwinBackbone(**SMALL, trainable=2).train()
    trained = {name for name, parameter in backbone.named_parameters() if parameter.requires_grad}
    assert {name.split(".")[0] + "." + name.split(".")[1] for name in trained} == {
        "stages.1", "stages.2", "output_norms.2", "output_norms.3",
    }  # fmt: skip
    assert not backbone.stages[0].training and backbone.stages[1].training
    # frozen parts draw no stochastic depth, the others do
    x = images(32, 32, batch=4)
    assert torch.equal(backbone(x, (1,)).hidden[1], backbone(x, (1,)).hidden[1])
    assert not any(p.requires_grad for p in SwinBackbone(**SMALL, trainable="none").parameters())
    attention = SwinBackbone(**SMALL, trainable="attention")
    assert all((".attn." in name) == p.requires_grad for name, p in attention.named_parameters())


def test_recomputed_blocks_give_the_same_gradients():
    gradients = []
    for checkpointing in (False, True):
        backbone = small(checkpointing=checkpointing, drop_path=0.3).train()
        torch.manual_seed(2)
        backbone(images(48, 32, batch=2), (3,)).hidden[3].square().sum().backward()
        gradients.append([p.grad for p in backbone.parameters() if p.grad is not None])
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(heads=(1, 2)), "heads: expected one number for each of the 3 stages of depths"),
        (dict(heads=(1, 5, 3)), "heads: 5 does not divide the 24 channels of its stage"),
        (dict(depths=(2, 0, 2)), "depths: expected a list of whole numbers of at least 1"),
        (dict(window=0), "window: expected a whole number of at least 1"),
        (dict(drop_path=1), "drop_path: expected a probability below 1"),
        (dict(output_norms=(0, 2)), r"output_norms: expected stages from 1 to 3, got \[0\]"),
        (dict(trainable=5), "trainable: expected"),
        (dict(mean=(1, 2)), "mean: expected three values"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        SwinBackbone(**SMALL | arguments)


def test_wrong_sizes_and_layers_are_named():
    with pytest.raises(ValueError, match="input size 40x64 is not divisible by the stride 16"):
        small()(images(40, 64))
    with pytest.raises(ValueError, match=r"layers \[4\] do not exist"):
        small()(images(64, 64), (4,))
