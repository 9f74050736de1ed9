"""The reference: Hugging Face's GroupViT with random weights, and the same weights in the official layout."""

import re

import torch
from torch import Tensor
from transformers import GroupViTConfig, GroupViTModel

from openvocab.converters.groupvit import convert
from openvocab.model import OpenVocabModel
from openvocab.registry import MODELS

STAGE = r"vision_model\.encoder\.stages\.(\d)"
BLOCK = r"img_encoder.layers.\1.blocks.\2"
OFFICIAL = (
    (r"vision_model\.embeddings\.position_embeddings", "img_encoder.pos_embed"),
    (r"vision_model\.embeddings\.patch_embeddings\.projection\.(.+)", r"img_encoder.patch_embed.proj.\1"),
    (r"vision_model\.embeddings\.layernorm\.(.+)", r"img_encoder.patch_embed.norm.\1"),
    (r"vision_model\.layernorm\.(.+)", r"img_encoder.norm.\1"),
    (rf"{STAGE}\.layers\.(\d)\.layer_norm(\d)\.(.+)", rf"{BLOCK}.norm\3.\4"),
    (rf"{STAGE}\.layers\.(\d)\.self_attn\.(q|k|v)_proj\.(.+)", rf"{BLOCK}.attn.\3.\4"),
    (rf"{STAGE}\.layers\.(\d)\.self_attn\.out_proj\.(.+)", rf"{BLOCK}.attn.proj.\3"),
    (rf"{STAGE}\.layers\.(\d)\.(mlp.+)", rf"{BLOCK}.\3"),
    (rf"{STAGE}\.downsample\.pre_assign_attn\.attn\.out_proj\.(.+)",
     r"img_encoder.layers.\1.downsample.pre_assign_attn.attn.proj.\2"),
    (rf"{STAGE}\.(.+)", r"img_encoder.layers.\1.\2"),
    (r"text_model\.embeddings\.token_embedding\.(.+)", r"text_encoder.token_embedding.\1"),
    (r"text_model\.embeddings\.position_embedding\.weight", "text_encoder.positional_embedding"),
    (r"text_model\.final_layer_norm\.(.+)", r"text_encoder.ln_final.\1"),
    (r"text_model\.encoder\.layers\.(\d+)\.layer_norm(\d)\.(.+)", r"text_encoder.transformer.resblocks.\1.ln_\2.\3"),
    (r"text_model\.encoder\.layers\.(\d+)\.mlp\.fc1\.(.+)", r"text_encoder.transformer.resblocks.\1.mlp.c_fc.\2"),
    (r"text_model\.encoder\.layers\.(\d+)\.mlp\.fc2\.(.+)", r"text_encoder.transformer.resblocks.\1.mlp.c_proj.\2"),
    (r"text_model\.encoder\.layers\.(\d+)\.self_attn\.(q|k|v)_proj\.(.+)",
     r"text_encoder.transformer.resblocks.\1.attn.\2.\3"),
    (r"text_model\.encoder\.layers\.(\d+)\.self_attn\.(out_proj.+)", r"text_encoder.transformer.resblocks.\1.attn.\2"),
    (r"visual_projection\.([01])\.(.+)", r"img_projector.linear_hidden.\1.\2"),
    (r"visual_projection\.3\.(.+)", r"img_projector.linear_out.\1"),
    (r"text_projection\.([01])\.(.+)", r"text_projector.linear_hidden.\1.\2"),
    (r"text_projection\.3\.(.+)", r"text_projector.linear_out.\1"),
    (r"logit_scale", "logit_scale"),
)  # fmt: skip


def reference_model() -> GroupViTModel:
    """Build the official size with weights that make every part count."""
    generator = torch.Generator().manual_seed(0)
    model = GroupViTModel(GroupViTConfig()).eval()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if not value.is_floating_point() or name == "logit_scale":
                continue
            noise = torch.randn(value.shape, generator=generator)
            if name.endswith("running_var"):
                value.copy_(1 + 0.2 * noise.abs())
            elif value.ndim == 1 and name.endswith("weight"):  # norms
                value.copy_(1 + 0.2 * noise)
            else:
                value.copy_(0.05 * noise)
    return model


def official_layout(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename Hugging Face's entries to the official ones; join q, k and v where the official network has one matrix."""
    named = {}
    for key, value in state.items():
        if key.endswith("position_ids"):
            continue
        pattern, template = next(rule for rule in OFFICIAL if re.fullmatch(rule[0], key))
        named[re.fullmatch(pattern, key).expand(template)] = value
    joined = {"multi_label_logit_scale": torch.tensor(2.0)}
    for key, value in named.items():
        match = re.fullmatch(r"(.+\.attn)\.([qkv])\.(weight|bias)", key)
        if match is None:
            linear_of_projector = "_projector." in key and value.ndim == 2
            joined[key] = value[:, :, None] if linear_of_projector else value
        elif match[2] == "q":
            parts = torch.cat([named[f"{match[1]}.{letter}.{match[3]}"] for letter in "qkv"])
            name = f"in_proj_{match[3]}" if key.startswith("text") else f"qkv.{match[3]}"
            joined[f"{match[1]}.{name}"] = parts
    return joined


def build_official(**head) -> OpenVocabModel:
    """Build the official network in our parts."""
    return MODELS.build(
        dict(
            type="OpenVocabModel",
            backbone=dict(type="PatchEmbedding"),
            text_encoder=dict(type="CLIPTextEncoder", model="GroupViT", projector=(4096, 256), templates="simple"),
            head=dict(type="GroupViTHead", **head),
        )
    )


def load_reference(reference: GroupViTModel, **head) -> OpenVocabModel:
    """Give the official network the reference's weights, through the converter."""
    model = build_official(**head)
    model.load_state_dict(convert(official_layout(reference.state_dict())), strict=True)
    return model.eval()
