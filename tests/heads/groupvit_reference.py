"""The reference: Hugging Face's GroupViT with random weights, and the same weights in the official layout."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import GroupViTConfig, GroupViTModel

from openvocab.converters.groupvit import convert
from openvocab.model import OpenVocabModel
from openvocab.registry import MODELS

_STAGE = r"vision_model\.encoder\.stages\.(\d+)"
_LAYER = r"text_model\.encoder\.layers\.(\d+)"
_RESBLOCK = r"text_encoder.transformer.resblocks.\1"
_TO_OFFICIAL = (
    (r"vision_model\.embeddings\.position_embeddings", "img_encoder.pos_embed"),
    (r"vision_model\.embeddings\.patch_embeddings\.projection\.", "img_encoder.patch_embed.proj."),
    (r"vision_model\.embeddings\.layernorm\.", "img_encoder.patch_embed.norm."),
    (r"vision_model\.layernorm\.", "img_encoder.norm."),
    (rf"{_STAGE}\.layers\.(\d+)\.layer_norm", r"img_encoder.layers.\1.blocks.\2.norm"),
    (rf"{_STAGE}\.layers\.(\d+)\.self_attn\.out_proj", r"img_encoder.layers.\1.blocks.\2.attn.proj"),
    (rf"{_STAGE}\.layers\.(\d+)\.self_attn\.qkv_proj", r"img_encoder.layers.\1.blocks.\2.attn.qkv"),
    (rf"{_STAGE}\.layers\.(\d+)\.", r"img_encoder.layers.\1.blocks.\2."),
    (rf"{_STAGE}\.downsample\.pre_assign_attn\.attn\.out_proj",
     r"img_encoder.layers.\1.downsample.pre_assign_attn.attn.proj"),
    (rf"{_STAGE}\.", r"img_encoder.layers.\1."),
    (r"text_model\.embeddings\.token_embedding\.", "text_encoder.token_embedding."),
    (r"text_model\.embeddings\.position_embedding\.weight", "text_encoder.positional_embedding"),
    (r"text_model\.final_layer_norm\.", "text_encoder.ln_final."),
    (rf"{_LAYER}\.layer_norm", rf"{_RESBLOCK}.ln_"),
    (rf"{_LAYER}\.mlp\.fc1", rf"{_RESBLOCK}.mlp.c_fc"),
    (rf"{_LAYER}\.mlp\.fc2", rf"{_RESBLOCK}.mlp.c_proj"),
    (rf"{_LAYER}\.self_attn\.qkv_proj\.", rf"{_RESBLOCK}.attn.in_proj_"),
    (rf"{_LAYER}\.self_attn\.", rf"{_RESBLOCK}.attn."),
    (r"visual_projection\.([01])\.", r"img_projector.linear_hidden.\1."),
    (r"visual_projection\.3\.", "img_projector.linear_out."),
    (r"text_projection\.([01])\.", r"text_projector.linear_hidden.\1."),
    (r"text_projection\.3\.", "text_projector.linear_out."),
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
    """Rename Hugging Face's entries to the official ones; add what the official checkpoints have besides."""
    renamed = {
        key: value[:, :, None] if "_projector." in key and value.ndim == 2 else value  # convolutions of one pixel
        for key, value in _official_names(state).items()
    }
    return {"multi_label_logit_scale": torch.tensor(2.0), **renamed}


def build_official(head: str, templates, normalize_templates: bool) -> OpenVocabModel:
    """Build the official network in our parts."""
    texts = dict(templates=templates, normalize_templates=normalize_templates)
    return MODELS.build(
        dict(
            type="OpenVocabModel",
            backbone=dict(type="PatchEmbedding"),
            text_encoder=dict(type="CLIPTextEncoder", model="GroupViT", projector=(4096, 256), **texts),
            head=dict(type=head),
        )
    )


def load_reference(
    reference: GroupViTModel, head: str = "GroupViTHead", templates="simple", normalize_templates: bool = True
) -> OpenVocabModel:
    """Give the official network the reference's weights, through the converter."""
    model = build_official(head, templates, normalize_templates)
    model.load_state_dict(convert(official_layout(reference.state_dict())), strict=True)
    return model.eval()


def _official_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename Hugging Face's entries to the official ones, by a table that is not the converter's."""
    return {_rename(key): value for key, value in _join_projections(state).items() if not key.endswith("position_ids")}


def _join_projections(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Join query, key and value of self-attention, which are one matrix in the official network."""
    joined = {}
    for key, value in state.items():
        match = re.fullmatch(r"(.+\.self_attn\.)([qkv])(_proj\..+)", key)
        if match is None:
            joined[key] = value
        elif match[2] == "q":
            parts = [state[f"{match[1]}{letter}{match[3]}"] for letter in "qkv"]
            joined[f"{match[1]}qkv{match[3]}"] = torch.cat(parts)
    return joined


def _rename(key: str) -> str:
    for pattern, replacement in _TO_OFFICIAL:
        renamed, count = re.subn(rf"^{pattern}", replacement, key)
        if count:
            return renamed
    return key  # logit_scale
