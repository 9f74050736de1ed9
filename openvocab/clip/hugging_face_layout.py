"""Conversion of CLIP, SigLIP and GroupViT weights in the layout of Hugging Face's transformers; pure functions.

There, query, key and value of self-attention are three layers; here they are one. CLIP's projections are linear layers
there, and matrices that are multiplied from the right here.
"""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from openvocab.checkpoint.entry_renaming import Rules, rename_entries

_POSITION_IDS = r"(text|vision)_model\.embeddings\.position_ids"
"""Constants 0, 1, 2, ... in files of older versions; dropped."""


def _blocks(theirs: str, ours: str) -> Rules:
    """Return the renaming rules of transformer blocks, which open_clip calls `resblocks`."""
    theirs, ours = rf"{theirs}\.encoder\.layers\.(\d+)", rf"{ours}transformer.resblocks.\1"
    return (
        (rf"{theirs}\.layer_norm([12])\.(.+)", rf"{ours}.ln_\2.\3"),
        (rf"{theirs}\.self_attn\.qkv_proj\.(weight|bias)", rf"{ours}.attn.in_proj_\2"),
        (rf"{theirs}\.self_attn\.out_proj\.(.+)", rf"{ours}.attn.out_proj.\2"),
        (rf"{theirs}\.mlp\.fc1\.(.+)", rf"{ours}.mlp.c_fc.\2"),
        (rf"{theirs}\.mlp\.fc2\.(.+)", rf"{ours}.mlp.c_proj.\2"),
    )


def text_tower(prefix: str) -> Rules:
    """Return the renaming rules of the text tower, the same for all three models; `prefix` starts the new names."""
    return (
        (r"text_model\.embeddings\.token_embedding\.weight", f"{prefix}token_embedding.weight"),
        (r"text_model\.embeddings\.position_embedding\.weight", f"{prefix}positional_embedding"),
        *_blocks("text_model", prefix),
        (r"text_model\.final_layer_norm\.(.+)", rf"{prefix}ln_final.\1"),
    )


CLIP: Rules = (
    *text_tower("text."),
    (r"text_projection\.weight", "text.text_projection"),
    (r"vision_model\.embeddings\.class_embedding", "visual.class_embedding"),
    (r"vision_model\.embeddings\.patch_embedding\.weight", "visual.conv1.weight"),
    (r"vision_model\.embeddings\.position_embedding\.weight", "visual.positional_embedding"),
    (r"vision_model\.pre_layrnorm\.(.+)", r"visual.ln_pre.\1"),
    *_blocks("vision_model", "visual."),
    (r"vision_model\.post_layernorm\.(.+)", r"visual.ln_post.\1"),
    (r"visual_projection\.weight", "visual.proj"),
    (r"(logit_scale)", r"\1"),
)
TRANSPOSED = ("text_projection.weight", "visual_projection.weight")

SIGLIP: Rules = (
    *text_tower("text."),
    (r"text_model\.head\.(.+)", r"text.text_projection.\1"),
    (r"vision_model\.embeddings\.patch_embedding\.(.+)", r"visual.trunk.patch_embed.proj.\1"),
    (r"vision_model\.embeddings\.position_embedding\.weight", "visual.trunk.pos_embed"),
    (r"vision_model\.encoder\.layers\.(\d+)\.layer_norm([12])\.(.+)", r"visual.trunk.blocks.\1.norm\2.\3"),
    (r"vision_model\.encoder\.layers\.(\d+)\.self_attn\.qkv_proj\.(.+)", r"visual.trunk.blocks.\1.attn.qkv.\2"),
    (r"vision_model\.encoder\.layers\.(\d+)\.self_attn\.out_proj\.(.+)", r"visual.trunk.blocks.\1.attn.proj.\2"),
    (r"vision_model\.encoder\.layers\.(\d+)\.(mlp\.fc[12]\..+)", r"visual.trunk.blocks.\1.\2"),
    (r"vision_model\.post_layernorm\.(.+)", r"visual.trunk.norm.\1"),
    (r"vision_model\.head\.probe", "visual.trunk.attn_pool.latent"),
    (r"vision_model\.head\.attention\.q_proj\.(.+)", r"visual.trunk.attn_pool.q.\1"),
    (r"vision_model\.head\.attention\.kv_proj\.(.+)", r"visual.trunk.attn_pool.kv.\1"),
    (r"vision_model\.head\.attention\.out_proj\.(.+)", r"visual.trunk.attn_pool.proj.\1"),
    (r"vision_model\.head\.layernorm\.(.+)", r"visual.trunk.attn_pool.norm.\1"),
    (r"vision_model\.head\.(mlp\.fc[12]\..+)", r"visual.trunk.attn_pool.\1"),
    (r"(logit_scale|logit_bias)", r"\1"),
)


def is_hugging_face(state: Mapping[str, Tensor]) -> bool:
    """Return whether these are weights of a two-tower model in the layout of transformers."""
    return any(key.startswith(("text_model.", "vision_model.")) for key in state)


def clip_from_hugging_face(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the entries of a `CLIPModel` or `SiglipModel` to those of `open_clip.CustomTextCLIP`.

    The base and large SigLIP of open_clip use the exact GELU, those of Hugging Face the tanh approximation: with random
    weights, outputs differ by 2e-4 of their norm.

    Raises:
        ValueError: there are unknown entries, or one of the three projections of an attention is missing; the message
            names them.
    """
    if any(key.startswith(("text_model.head.", "vision_model.head.")) for key in state):
        return renamed(_split_pooling(state), SIGLIP, "Hugging Face's SigLIP")
    state = {key: value.T if key in TRANSPOSED else value for key, value in state.items()}
    return renamed(state, CLIP, "Hugging Face's CLIP")


def renamed(state: Mapping[str, Tensor], rules: Rules, source: str) -> dict[str, Tensor]:
    """Rename all entries by `rules`, after joining the three projections of each self-attention.

    Raises:
        ValueError: an entry has no rule, or one of the three projections of an attention is missing; the message names
            them.
    """
    joined = _join_projections(state)
    weights = {key: value.contiguous() for key, value in joined.items() if not re.fullmatch(_POSITION_IDS, key)}
    return rename_entries(weights, rules, f"a checkpoint of {source}", num_entries=len(state))


def _join_projections(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    joined: dict[str, Tensor] = {}
    for key, value in state.items():
        part = re.fullmatch(r"(.+\.self_attn\.)[qkv]_proj\.(weight|bias)", key)
        if part is None:
            joined[key] = value
            continue
        name = f"{part[1]}qkv_proj.{part[2]}"
        if name not in joined:
            parts = [f"{part[1]}{letter}_proj.{part[2]}" for letter in "qkv"]
            missing = [projection for projection in parts if projection not in state]
            if missing:
                raise ValueError(f"the weights have {key}, but not {' and '.join(missing)}")
            joined[name] = torch.cat([state[projection] for projection in parts])
    return joined


def _split_pooling(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Split the joint projection of SigLIP's pooling into query and key-value, and give positions a batch axis."""
    split: dict[str, Tensor] = {}
    for key, value in state.items():
        part = re.fullmatch(r"(vision_model\.head\.attention\.)in_proj_(weight|bias)", key)
        if part is not None:
            width = len(value) // 3
            split[f"{part[1]}q_proj.{part[2]}"] = value[:width]
            split[f"{part[1]}kv_proj.{part[2]}"] = value[width:]
        else:
            split[key] = value[None] if key == "vision_model.embeddings.position_embedding.weight" else value
    return split
