"""Official GroupViT weights in our names: strictly, and where they belong."""

import subprocess
import sys
from math import prod
from pathlib import Path

import pytest
import torch
from config_parts import CONFIGS, REPOSITORY, without_weights
from mmengine.registry import init_default_scope
from safetensors.torch import save_file

from openvocab.checkpoint.checkpoint import load_checkpoint
from openvocab.config.config import read_config
from openvocab.converters.groupvit import convert
from openvocab.model import OpenVocabModel
from openvocab.registry import MODELS

Layout = dict[str, tuple[int, ...]]


def linear(name: str, out: int, *inputs: int) -> Layout:
    """Weight and bias of a linear map or convolution; without inputs, of a norm."""
    return {f"{name}.weight": (out, *inputs), f"{name}.bias": (out,)}


def mlp(name: str, width: int, hidden: int, out: int) -> Layout:
    return linear(f"{name}.fc1", hidden, width) | linear(f"{name}.fc2", out, hidden)


def block(name: str, dim: int) -> Layout:
    layout = linear(f"{name}.norm1", dim) | linear(f"{name}.norm2", dim) | mlp(f"{name}.mlp", dim, 4 * dim, dim)
    return layout | linear(f"{name}.attn.qkv", 3 * dim, dim) | linear(f"{name}.attn.proj", dim, dim)


def grouping(name: str, dim: int, groups: int) -> Layout:
    layout: Layout = {}
    for norm in ("norm_tokens", "norm_post_tokens", "norm_x", "norm_new_x"):
        layout |= linear(f"{name}.{norm}", dim)
    layout |= mlp(f"{name}.mlp_inter", groups, dim // 2, groups) | mlp(f"{name}.mlp_channels", dim, 4 * dim, dim)
    for part in ("pre_assign_attn.attn", "assign"):
        for letter in ("q_proj", "k_proj", "v_proj", "proj"):
            layout |= linear(f"{name}.{part}.{letter}", dim, dim)
    layout |= linear(f"{name}.pre_assign_attn.norm2", dim) | linear(f"{name}.pre_assign_attn.norm_post", dim)
    return layout | mlp(f"{name}.pre_assign_attn.mlp", dim, 4 * dim, dim)


def projector(name: str, dim: int) -> Layout:
    layout = linear(f"{name}.linear_hidden.0", 4096, dim, 1) | linear(f"{name}.linear_out", 256, 4096, 1)
    layout |= linear(f"{name}.linear_hidden.1", 4096)
    layout |= {f"{name}.linear_hidden.1.running_{part}": (4096,) for part in ("mean", "var")}
    return layout | {f"{name}.linear_hidden.1.num_batches_tracked": ()}


def official_layout() -> Layout:
    image, text = "img_encoder", "text_encoder"
    layout: Layout = {"logit_scale": (), "multi_label_logit_scale": (), f"{image}.pos_embed": (1, 196, 384)}
    layout |= linear(f"{image}.patch_embed.proj", 384, 3, 16, 16) | linear(f"{image}.patch_embed.norm", 384)
    for stage, (depth, groups) in enumerate(((6, 64), (3, 8), (3, 0))):
        for index in range(depth):
            layout |= block(f"{image}.layers.{stage}.blocks.{index}", 384)
        if groups:
            layout |= {f"{image}.layers.{stage}.group_token": (1, groups, 384)}
            layout |= grouping(f"{image}.layers.{stage}.downsample", 384, groups)
    carry = f"{image}.layers.1.group_projector"
    layout |= linear(f"{carry}.0", 384) | mlp(f"{carry}.1", 64, 192, 8) | linear(f"{image}.norm", 384)
    layout |= {f"{text}.positional_embedding": (77, 256), f"{text}.token_embedding.weight": (49408, 256)}
    for index in range(12):
        name = f"{text}.transformer.resblocks.{index}"
        layout |= {f"{name}.attn.in_proj_weight": (768, 256), f"{name}.attn.in_proj_bias": (768,)}
        layout |= linear(f"{name}.attn.out_proj", 256, 256) | linear(f"{name}.ln_1", 256) | linear(f"{name}.ln_2", 256)
        layout |= linear(f"{name}.mlp.c_fc", 1024, 256) | linear(f"{name}.mlp.c_proj", 256, 1024)
    layout |= linear(f"{text}.ln_final", 256)
    return layout | projector("img_projector", 384) | projector("text_projector", 256)


def build(name: str, **head) -> OpenVocabModel:
    init_default_scope("openvocab")
    path = next(path for path in CONFIGS if path.stem == name)
    config = without_weights(read_config(path).model.to_dict())
    config["head"].update(head)
    with torch.device("meta"):
        return MODELS.build(config)


def meta_tensors(layout: Layout) -> dict[str, torch.Tensor]:
    return {key: torch.empty(shape, device="meta") for key, shape in layout.items()}


def test_the_layout_has_the_official_size():
    layout = official_layout()
    buffers = sum(prod(shape) for key, shape in layout.items() if "running" in key or "tracked" in key)
    assert len(layout) == 407
    assert sum(prod(shape) for shape in layout.values()) - buffers == 55_726_610


@pytest.mark.parametrize(
    "name", ["groupvit_cc3m-cc12m-yfcc14m", "groupvit_voc", "groupvit_context", "groupvit_coco_object"]
)
def test_it_loads_strictly_into_the_configs(name: str):
    build(name).load_state_dict(convert(meta_tensors(official_layout())), strict=True, assign=True)


@pytest.mark.parametrize("name", ["groupvit_cc3m-cc12m-redcaps12m", "groupvit_voc"])
def test_weights_without_the_multi_label_scale_load_without_the_loss(name: str):
    layout = official_layout()
    del layout["multi_label_logit_scale"]
    build(name, multi_label=dict(num_prompts=0)).load_state_dict(
        convert(meta_tensors(layout)), strict=True, assign=True
    )


def hugging_face_layout() -> Layout:
    """Names and shapes of transformers' model at its default size, which is the official one."""
    transformers = pytest.importorskip("transformers")
    with torch.device("meta"):
        model = transformers.GroupViTModel(transformers.GroupViTConfig())
    return {key: tuple(value.shape) for key, value in model.state_dict().items()}


@pytest.mark.parametrize("name", ["groupvit_cc3m-cc12m-redcaps12m", "groupvit_voc"])
def test_hugging_faces_weights_load_strictly_without_the_loss(name: str):
    layout = hugging_face_layout() | {"text_model.embeddings.position_ids": (1, 77)}  # of older versions
    build(name, multi_label=dict(num_prompts=0)).load_state_dict(
        convert(meta_tensors(layout)), strict=True, assign=True
    )


def test_of_hugging_faces_weights_what_is_unknown_or_half_there_is_named():
    layout = hugging_face_layout()
    with pytest.raises(ValueError, match="Hugging Face's GroupViT: 1 of 503 entries are unknown: vision_model.extra"):
        convert(meta_tensors(layout | {"vision_model.extra": (1,)}))
    missing = "vision_model.encoder.stages.1.layers.2.self_attn.k_proj.weight"
    del layout[missing]
    with pytest.raises(ValueError, match=rf"the weights have .*, but not {missing}"):
        convert(meta_tensors(layout))


def test_values_arrive_where_they_belong():
    generator = torch.Generator().manual_seed(0)
    keys = {
        "img_encoder.norm.weight": "head.transformer.norm.weight",
        "img_encoder.layers.0.downsample.norm_x.bias": "head.transformer.stages.0.grouping.norm_tokens.bias",
        "img_encoder.layers.0.downsample.norm_tokens.bias": "head.transformer.stages.0.grouping.norm_groups.bias",
        "img_encoder.layers.1.downsample.assign.k_proj.weight": "head.transformer.stages.1.grouping.assign.key.weight",
        "img_encoder.layers.1.downsample.pre_assign_attn.attn.v_proj.bias": (
            "head.transformer.stages.1.grouping.look.value.bias"
        ),
        "img_encoder.layers.1.group_projector.1.fc2.bias": "head.transformer.stages.1.carry.1.mlp.fc2.bias",
        "text_encoder.ln_final.bias": "text_encoder.text.ln_final.bias",
        "text_projector.linear_hidden.1.running_var": "text_encoder.text.projector.norm.running_var",
        "logit_scale": "text_encoder.logit_scale",
    }
    layout = official_layout()
    source = {key: torch.randn(layout[key], generator=generator) for key in keys}
    converted = convert(source)
    for theirs, ours in keys.items():
        assert converted[ours] is source[theirs]


def test_another_checkpoint_is_refused():
    with pytest.raises(ValueError, match=r"not an official GroupViT checkpoint: 1 of .* unknown: .*decode_head"):
        convert({"decode_head.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match="not an official GroupViT checkpoint"):
        convert({})


def run_tool(source: Path, out: Path) -> dict[str, torch.Tensor]:
    command = [sys.executable, REPOSITORY / "tools/convert_checkpoint.py", "groupvit", source, out]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return load_checkpoint(out)["state_dict"]


def test_the_tool_reads_the_official_file_and_the_folder_of_hugging_face(tmp_path: Path):
    layout = {key: shape for key, shape in official_layout().items() if prod(shape) < 5000}
    torch.save({"model": {key: torch.zeros(shape) for key, shape in layout.items()}}, tmp_path / "official.pth")
    assert len(run_tool(tmp_path / "official.pth", tmp_path / "out.pth")) == len(layout)
    small = {key: torch.zeros(shape) for key, shape in hugging_face_layout().items() if prod(shape) < 5000}
    (tmp_path / "hub").mkdir()
    save_file(small, tmp_path / "hub/model.safetensors")
    assert run_tool(tmp_path / "hub", tmp_path / "out.pth").keys() == convert(small).keys()
