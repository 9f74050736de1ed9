"""The official LSeg checkpoint layout, with random weights, loads strictly into our model."""

import subprocess
import sys
from math import prod
from pathlib import Path

import pytest
import torch

from openvocab.checkpoint.checkpoint import load_checkpoint
from openvocab.converters.lseg import convert
from openvocab.model import OpenVocabModel
from openvocab.registry import MODELS

REPOSITORY = Path(__file__).resolve().parents[2]
Layout = dict[str, tuple[int, ...]]


def pair(name: str, *shape: int) -> Layout:
    """A weight with its bias."""
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def norm(name: str, dim: int) -> Layout:
    return pair(name, dim) | {
        f"{name}.running_mean": (dim,),
        f"{name}.running_var": (dim,),
        f"{name}.num_batches_tracked": (),
    }


def timm_block(name: str, dim: int) -> Layout:
    layout = pair(f"{name}.norm1", dim) | pair(f"{name}.norm2", dim)
    layout |= pair(f"{name}.attn.qkv", 3 * dim, dim) | pair(f"{name}.attn.proj", dim, dim)
    return layout | pair(f"{name}.mlp.fc1", 4 * dim, dim) | pair(f"{name}.mlp.fc2", dim, 4 * dim)


def clip_block(name: str, dim: int) -> Layout:
    layout = {f"{name}.attn.in_proj_weight": (3 * dim, dim), f"{name}.attn.in_proj_bias": (3 * dim,)}
    layout |= pair(f"{name}.attn.out_proj", dim, dim) | pair(f"{name}.ln_1", dim) | pair(f"{name}.ln_2", dim)
    return layout | pair(f"{name}.mlp.c_fc", 4 * dim, dim) | pair(f"{name}.mlp.c_proj", dim, 4 * dim)


def clip_layout(text: int, text_depth: int, embed: int, image: int, image_depth: int) -> Layout:
    layout: Layout = {"positional_embedding": (77, text), "text_projection": (text, embed), "logit_scale": ()}
    layout |= {"token_embedding.weight": (49408, text)} | pair("ln_final", text)
    layout |= {"visual.class_embedding": (image,), "visual.positional_embedding": (50, image)}
    layout |= {"visual.proj": (image, embed), "visual.conv1.weight": (image, 3, 32, 32)}
    layout |= pair("visual.ln_pre", image) | pair("visual.ln_post", image)
    for i in range(text_depth):
        layout |= clip_block(f"transformer.resblocks.{i}", text)
    for i in range(image_depth):
        layout |= clip_block(f"visual.transformer.resblocks.{i}", image)
    return {f"clip_pretrained.{key}": shape for key, shape in layout.items()}


def vit_layout(dim: int, depth: int, dims: tuple[int, ...]) -> Layout:
    model = "pretrained.model"
    layout: Layout = {f"{model}.cls_token": (1, 1, dim), f"{model}.pos_embed": (1, 577, dim)}
    layout |= pair(f"{model}.patch_embed.proj", dim, 3, 16, 16) | pair(f"{model}.norm", dim)
    layout |= pair(f"{model}.head", 1000, dim)
    for i in range(depth):
        layout |= timm_block(f"{model}.blocks.{i}", dim)
    for level, out in enumerate(dims, start=1):
        stage = f"pretrained.act_postprocess{level}"
        layout |= pair(f"{stage}.0.project.0", dim, 2 * dim) | pair(f"{stage}.3", out, dim, 1, 1)
    for level, kernel in ((1, 4), (2, 2), (4, 3)):
        layout |= pair(f"pretrained.act_postprocess{level}.4", dims[level - 1], dims[level - 1], kernel, kernel)
    return layout


def resnet101_layout() -> Layout:
    layout: Layout = {"layer1.0.weight": (64, 3, 7, 7)} | norm("layer1.1", 64)
    width = 64
    for stage, blocks in enumerate((3, 4, 23, 3), start=1):
        inner = 32 * 2**stage
        for block in range(blocks):
            name = f"layer1.4.{block}" if stage == 1 else f"layer{stage}.{block}"
            shapes = ((inner, width, 1, 1), (inner, inner, 3, 3), (4 * inner, inner, 1, 1))
            for n, shape in enumerate(shapes, start=1):
                layout |= {f"{name}.conv{n}.weight": shape} | norm(f"{name}.bn{n}", shape[0])
            if block == 0:
                layout |= {f"{name}.downsample.0.weight": (4 * inner, width, 1, 1)} | norm(
                    f"{name}.downsample.1", 4 * inner
                )
            width = 4 * inner
    return {f"pretrained.{key}": shape for key, shape in layout.items()}


def scratch_layout(dims: tuple[int, ...], features: int, embed: int) -> Layout:
    layout: Layout = {f"layer{level}_rn.weight": (features, dim, 3, 3) for level, dim in enumerate(dims, start=1)}
    for level in range(1, 5):
        layout |= pair(f"refinenet{level}.out_conv", features, features, 1, 1)
        for unit in ("resConfUnit1", "resConfUnit2"):
            for n in (1, 2):
                name = f"refinenet{level}.{unit}"
                layout |= {f"{name}.conv{n}.weight": (features, features, 3, 3)} | norm(f"{name}.bn{n}", features)
    layout |= pair("head1", embed, features, 1, 1)
    return {f"scratch.{key}": shape for key, shape in layout.items()}


def tensors(layout: Layout, device: str = "cpu") -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    if device == "meta":
        return {f"net.{key}": torch.empty(shape, device="meta") for key, shape in layout.items()}
    return {f"net.{key}": torch.randn(shape, generator=generator) for key, shape in layout.items()}


def small_layout() -> Layout:
    dims = (8, 12, 16, 16)
    return clip_layout(128, 2, 128, 16, 1) | vit_layout(32, 4, dims) | scratch_layout(dims, 20, 128)


def small_model(**head) -> OpenVocabModel:
    return MODELS.build(
        dict(
            type="OpenVocabModel",
            backbone=dict(
                type="TimmBackbone",
                model="vit_tiny_patch16_384",
                model_args=dict(embed_dim=32, depth=4, num_heads=2),
            ),
            text_encoder=dict(type="CLIPTextEncoder", model="ViT-Ti-8-shapes"),
            head=dict(type="LSegHead", layers=(1, 2, 3, 4), decoder=dict(dims=(8, 12, 16, 16), features=20), **head),
        )
    )


def test_the_full_layout_has_the_official_size_and_loads_strictly():
    dims = (256, 512, 1024, 1024)
    layout = clip_layout(512, 12, 512, 768, 12) | vit_layout(1024, 24, dims) | scratch_layout(dims, 256, 512)
    assert (len(layout), sum(prod(shape) for shape in layout.values())) == (730, 495_144_697)
    with torch.device("meta"):
        model = MODELS.build(
            dict(
                type="OpenVocabModel",
                backbone=dict(type="TimmBackbone", model="vit_large_patch16_384"),
                text_encoder=dict(type="CLIPTextEncoder", model="ViT-B-32-quickgelu", templates="lseg"),
                head=dict(type="LSegHead", layers=(6, 12, 18, 24)),
            )
        )
    model.load_state_dict(convert(tensors(layout, "meta")), strict=True, assign=True)


def test_values_arrive_where_they_belong():
    source = tensors(small_layout())
    model = small_model()
    model.load_state_dict(convert(source), strict=True)
    expected = {
        "backbone.visual.blocks.3.attn.qkv.weight": "pretrained.model.blocks.3.attn.qkv.weight",
        "text_encoder.text.token_embedding.weight": "clip_pretrained.token_embedding.weight",
        "head.reassemble.1.resize.bias": "pretrained.act_postprocess2.4.bias",
        "head.decoder.inputs.3.weight": "scratch.layer4_rn.weight",
        "head.decoder.fusions.0.skip_unit.norm2.running_var": "scratch.refinenet1.resConfUnit1.bn2.running_var",
        "head.decoder.fusions.3.unit.conv1.weight": "scratch.refinenet4.resConfUnit2.conv1.weight",
        "head.embed.bias": "scratch.head1.bias",
    }
    state = model.state_dict()
    for ours, theirs in expected.items():
        torch.testing.assert_close(state[ours], source[f"net.{theirs}"])


def test_a_network_without_lightnings_prefix_and_metrics_beside_one_are_fine():
    source = tensors(small_layout())
    bare = {key.removeprefix("net."): value for key, value in source.items()}
    assert convert(bare).keys() == convert(source | {"val_accuracy.correct": torch.zeros(())}).keys()


def test_the_spatial_block_is_carried_over():
    layout = small_layout() | pair("scratch.head_block.depthwise.depthwise", 1, 1, 3, 3)
    small_model(spatial_block=dict(kind="bottleneck")).load_state_dict(convert(tensors(layout)), strict=True)


def test_the_zero_shot_resnet_loads_strictly():
    dims = (256, 512, 1024, 2048)
    layout = clip_layout(128, 2, 128, 16, 1) | resnet101_layout() | scratch_layout(dims, 20, 128)
    with torch.device("meta"):
        model = MODELS.build(
            dict(
                type="OpenVocabModel",
                backbone=dict(type="TimmBackbone", model="resnet101"),
                text_encoder=dict(type="CLIPTextEncoder", model="ViT-Ti-8-shapes"),
                head=dict(type="LSegHead", layers=(1, 2, 3, 4), decoder=dict(factors=None, features=20)),
            )
        )
    model.load_state_dict(convert(tensors(layout, "meta")), strict=True, assign=True)


def test_another_checkpoint_is_refused():
    with pytest.raises(ValueError, match=r"not an official LSeg checkpoint: 1 of .* unknown: .*decode_head"):
        convert({"decode_head.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match="not an official LSeg checkpoint"):
        convert({})


def test_the_tool_writes_a_checkpoint_of_ours(tmp_path):
    source = tensors(small_layout())
    torch.save({"state_dict": source, "epoch": 3, "hyper_parameters": {"lr": 0.004}}, tmp_path / "official.ckpt")
    command = [sys.executable, REPOSITORY / "tools/convert_checkpoint.py", "lseg", tmp_path / "official.ckpt"]
    subprocess.run([*command, tmp_path / "out.pth"], check=True, capture_output=True, text=True)
    small_model().load_state_dict(load_checkpoint(tmp_path / "out.pth")["state_dict"], strict=True)
    torch.save({"state_dict": {"other": torch.zeros(1)}}, tmp_path / "official.ckpt")
    failed = subprocess.run([*command, tmp_path / "out.pth"], capture_output=True, text=True, check=False)
    assert failed.returncode == 2 and failed.stderr.count("\n") == 1 and "LSeg" in failed.stderr
