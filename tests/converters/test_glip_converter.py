"""The official GLIP layouts, with random weights, load strictly into our modules."""

import re

import pytest
import torch
from glip_reference import KEYS, LAYOUTS, make_model, needs_reference

from openvocab.converters.glip import convert
from openvocab.heads.glip_tower import GLIPTower

STEM = "backbone.body.patch_embed.proj.weight"
Layout = dict[str, tuple[int, ...]]


def layout(variant: str) -> Layout:
    """Names and shapes of the official model."""
    lines = [line.split(" ", 1) for line in (KEYS / f"{LAYOUTS[variant]}.txt").read_text().splitlines()]
    return {name: tuple(int(number) for number in re.findall(r"\d+", shape.split(")")[0])) for name, shape in lines}


def meta_tensors(shapes: Layout) -> dict[str, torch.Tensor]:
    return {f"module.{name}": torch.empty(shape, device="meta") for name, shape in shapes.items()}


def block_layout(index: int, fused: bool) -> Layout:
    """One block of the official tower, written down here for machines without the key lists."""
    first = 3 * index if fused else index
    name = f"rpn.head.dyhead_tower.{first + 2 if fused else first}"
    shapes: Layout = {}
    for branch in range(3):
        shapes |= pair(f"{name}.DyConv.{branch}.conv", 32, 32, 3, 3) | pair(f"{name}.DyConv.{branch}.bn", 32)
    shapes |= pair(f"{name}.AttnConv.1", 1, 32, 1, 1) | pair(f"{name}.offset", 27, 32, 3, 3)
    shapes |= pair(f"{name}.relu.fc.0", 8, 32) | pair(f"{name}.relu.fc.2", 128, 8)
    if not fused:
        return shapes
    fusion, text = f"rpn.head.dyhead_tower.{first}.b_attn", f"rpn.head.dyhead_tower.{first + 1}"
    shapes |= {f"{fusion}.gamma_v": (32,), f"{fusion}.gamma_l": (24,)}
    shapes |= pair(f"{fusion}.layer_norm_v", 32) | pair(f"{fusion}.layer_norm_l", 24)
    shapes |= pair(f"{fusion}.attn.v_proj", 16, 32) | pair(f"{fusion}.attn.values_v_proj", 16, 32)
    shapes |= pair(f"{fusion}.attn.l_proj", 16, 24) | pair(f"{fusion}.attn.values_l_proj", 16, 24)
    shapes |= pair(f"{fusion}.attn.out_v_proj", 32, 16) | pair(f"{fusion}.attn.out_l_proj", 24, 16)
    for part in ("query", "key", "value"):
        shapes |= pair(f"{text}.attention.self.{part}", 24, 24)
    shapes |= pair(f"{text}.attention.output.dense", 24, 24) | pair(f"{text}.attention.output.LayerNorm", 24)
    shapes |= pair(f"{text}.intermediate.dense", 96, 24) | pair(f"{text}.output.dense", 24, 96)
    return shapes | pair(f"{text}.output.LayerNorm", 24)


def pair(name: str, *shape: int) -> Layout:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def tower_of(converted: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    prefix = "head.tower."
    return {name.removeprefix(prefix): value for name, value in converted.items() if name.startswith(prefix)}


@needs_reference
@pytest.mark.parametrize("variant", ["a", "c", "l"])
def test_the_official_layouts_load_strictly(variant):
    with torch.device("meta"):
        model = make_model(variant)
    model.load_state_dict(convert(meta_tensors(layout(variant))), strict=True, assign=True)


@pytest.mark.parametrize("fused", [True, False])
def test_every_block_of_the_tower_gets_its_own_weights(fused):
    shapes = {STEM: (4, 3, 4, 4)} | block_layout(0, fused) | block_layout(1, fused)
    generator = torch.Generator().manual_seed(0)
    source = {f"module.{name}": torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    converted = tower_of(convert(source))
    sizes = dict(dim=32, text_dim=24, text_heads=3, fusion_heads=2, fusion_head_dim=8)
    GLIPTower(**sizes, num_blocks=2, fused=fused).load_state_dict(converted, strict=True)
    theirs = "module.rpn.head.dyhead_tower."
    step, last = (3, 2) if fused else (1, 0)
    for block in (0, 1):
        parts = {"DyConv.0.conv.weight": "from_coarser.conv.weight", "DyConv.2.bn.bias": "from_finer.norm.bias"}
        for name, ours in (parts | {"offset.bias": "sampling.bias", "relu.fc.2.bias": "activation.fc2.bias"}).items():
            assert converted[f"blocks.{block}.dynamic.{ours}"] is source[f"{theirs}{step * block + last}.{name}"]
        if fused:
            fusion = f"{theirs}{3 * block}.b_attn."
            assert converted[f"blocks.{block}.fusion.query.weight"] is source[fusion + "attn.v_proj.weight"]
            assert converted[f"blocks.{block}.fusion.text_gain"] is source[fusion + "gamma_l"]
            text = f"{theirs}{3 * block + 1}."
            out, norm = converted[f"blocks.{block}.text_layer.out.bias"], f"{text}attention.output.LayerNorm.bias"
            assert out is source[text + "attention.output.dense.bias"]
            assert converted[f"blocks.{block}.text_layer.attention_norm.bias"] is source[norm]


def test_the_first_convolution_reads_rgb_and_others_are_numbered_from_the_finest_level():
    source = {STEM: torch.randn(4, 3, 4, 4), "backbone.fpn.fpn_inner4.bias": torch.zeros(1)}
    source |= {"backbone.fpn.top_blocks.p7.bias": torch.zeros(1), "backbone.body.norm1.bias": torch.zeros(1)}
    converted = convert(source)
    stem = converted["backbone.patch_embed.proj.weight"]
    for official, ours in ((0, 2), (1, 1), (2, 0)):
        assert torch.equal(stem[:, ours], source[STEM][:, official])
    assert {"head.pyramid.network.inner_blocks.2.0.bias", "head.pyramid.extra_convs.1.bias"} <= converted.keys()
    assert "backbone.output_norms.2.bias" in converted


def test_constants_are_dropped():
    constants = {
        "backbone.body.layers.0.blocks.0.attn.relative_position_index": torch.zeros(1),
        "rpn.anchor_generator.cell_anchors.3": torch.zeros(1, 4),
        "language_backbone.body.model.embeddings.position_ids": torch.zeros(1, 512),
    }
    assert convert({STEM: torch.zeros(4, 3, 4, 4)} | constants).keys() == {"backbone.patch_embed.proj.weight"}


def test_another_checkpoint_and_unknown_entries_are_refused():
    with pytest.raises(ValueError, match=f"not an official GLIP checkpoint: it lacks {STEM}"):
        convert({"decode_head.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"1 of 2 entries are unknown: rpn\.head\.extra"):
        convert({f"module.{STEM}": torch.zeros(4, 3, 4, 4), "module.rpn.head.extra": torch.zeros(1)})
