"""Conversion of official GroupViT checkpoints (NVlabs/GroupViT, or Hugging Face's).

They become a `PatchEmbedding`, a `CLIPTextEncoder` with a projector, and a `GroupViTHead`.
"""

import re
from collections.abc import Mapping

from torch import Tensor

from openvocab.checkpoint.entry_renaming import Rules, rename_entries
from openvocab.clip.hugging_face_layout import is_hugging_face, renamed, text_tower

GROUPING = r"img_encoder\.layers\.(\d+)\.downsample"
GROUPING_OURS = r"head.transformer.stages.\1.grouping"
RENAMED = (
    (r"logit_scale", "text_encoder.logit_scale"),
    (r"multi_label_logit_scale", "head.multi_label_logit_scale"),
    (r"img_encoder\.pos_embed", "backbone.positions"),
    (r"img_encoder\.patch_embed\.proj\.(.+)", r"backbone.project.\1"),
    (r"img_encoder\.patch_embed\.norm\.(.+)", r"backbone.norm.\1"),
    (r"img_encoder\.norm\.(.+)", r"head.transformer.norm.\1"),
    (r"img_encoder\.layers\.(\d+)\.group_token", r"head.transformer.stages.\1.group_tokens"),
    (r"img_encoder\.layers\.(\d+)\.blocks\.(.+)", r"head.transformer.stages.\1.blocks.\2"),
    (r"img_encoder\.layers\.(\d+)\.group_projector\.0\.(.+)", r"head.transformer.stages.\1.carry.0.\2"),
    (r"img_encoder\.layers\.(\d+)\.group_projector\.1\.(.+)", r"head.transformer.stages.\1.carry.1.mlp.\2"),
    (rf"{GROUPING}\.norm_tokens\.(.+)", rf"{GROUPING_OURS}.norm_groups.\2"),
    (rf"{GROUPING}\.norm_x\.(.+)", rf"{GROUPING_OURS}.norm_tokens.\2"),
    (rf"{GROUPING}\.mlp_inter\.(.+)", rf"{GROUPING_OURS}.mix_groups.mlp.\2"),
    (rf"{GROUPING}\.norm_post_tokens\.(.+)", rf"{GROUPING_OURS}.norm_mixed.\2"),
    (rf"{GROUPING}\.pre_assign_attn\.attn\.(q|k|v)_proj\.(.+)", rf"{GROUPING_OURS}.look.{{\2}}.\3"),
    (rf"{GROUPING}\.pre_assign_attn\.attn\.proj\.(.+)", rf"{GROUPING_OURS}.look.out.\2"),
    (rf"{GROUPING}\.pre_assign_attn\.norm2\.(.+)", rf"{GROUPING_OURS}.look.norm.\2"),
    (rf"{GROUPING}\.pre_assign_attn\.mlp\.(.+)", rf"{GROUPING_OURS}.look.mlp.\2"),
    (rf"{GROUPING}\.pre_assign_attn\.norm_post\.(.+)", rf"{GROUPING_OURS}.look.norm_out.\2"),
    (rf"{GROUPING}\.assign\.(q|k|v)_proj\.(.+)", rf"{GROUPING_OURS}.assign.{{\2}}.\3"),
    (rf"{GROUPING}\.assign\.proj\.(.+)", rf"{GROUPING_OURS}.assign.out.\2"),
    (rf"{GROUPING}\.norm_new_x\.(.+)", rf"{GROUPING_OURS}.norm_new.\2"),
    (rf"{GROUPING}\.mlp_channels\.(.+)", rf"{GROUPING_OURS}.mlp.\2"),
    (r"img_projector\.linear_hidden\.0\.(.+)", r"head.projector.hidden.\1"),
    (r"img_projector\.linear_hidden\.1\.(.+)", r"head.projector.norm.\1"),
    (r"img_projector\.linear_out\.(.+)", r"head.projector.out.\1"),
    (r"text_projector\.linear_hidden\.0\.(.+)", r"text_encoder.text.projector.hidden.\1"),
    (r"text_projector\.linear_hidden\.1\.(.+)", r"text_encoder.text.projector.norm.\1"),
    (r"text_projector\.linear_out\.(.+)", r"text_encoder.text.projector.out.\1"),
    (r"text_encoder\.(.+)", r"text_encoder.text.\1"),
)
STAGE = r"vision_model\.encoder\.stages\.(\d+)"
HUGGING_FACE: Rules = (
    *text_tower("text_encoder."),
    (r"logit_scale", "logit_scale"),
    (r"vision_model\.embeddings\.position_embeddings", "img_encoder.pos_embed"),
    (r"vision_model\.embeddings\.patch_embeddings\.projection\.(.+)", r"img_encoder.patch_embed.proj.\1"),
    (r"vision_model\.embeddings\.layernorm\.(.+)", r"img_encoder.patch_embed.norm.\1"),
    (r"vision_model\.layernorm\.(.+)", r"img_encoder.norm.\1"),
    (rf"{STAGE}\.group_token", r"img_encoder.layers.\1.group_token"),
    (rf"{STAGE}\.group_projector\.(.+)", r"img_encoder.layers.\1.group_projector.\2"),
    (rf"{STAGE}\.layers\.(\d+)\.layer_norm([12])\.(.+)", r"img_encoder.layers.\1.blocks.\2.norm\3.\4"),
    (rf"{STAGE}\.layers\.(\d+)\.self_attn\.qkv_proj\.(.+)", r"img_encoder.layers.\1.blocks.\2.attn.qkv.\3"),
    (rf"{STAGE}\.layers\.(\d+)\.self_attn\.out_proj\.(.+)", r"img_encoder.layers.\1.blocks.\2.attn.proj.\3"),
    (rf"{STAGE}\.layers\.(\d+)\.(mlp\.fc[12]\..+)", r"img_encoder.layers.\1.blocks.\2.\3"),
    (
        rf"{STAGE}\.downsample\.pre_assign_attn\.attn\.out_proj\.(.+)",
        r"img_encoder.layers.\1.downsample.pre_assign_attn.attn.proj.\2",
    ),
    (rf"{STAGE}\.downsample\.(.+)", r"img_encoder.layers.\1.downsample.\2"),
    (r"visual_projection\.([01])\.(.+)", r"img_projector.linear_hidden.\1.\2"),
    (r"visual_projection\.3\.(.+)", r"img_projector.linear_out.\1"),
    (r"text_projection\.([01])\.(.+)", r"text_projector.linear_hidden.\1.\2"),
    (r"text_projection\.3\.(.+)", r"text_projector.linear_out.\1"),
)
"""Renames transformers' `GroupViTModel` to the official layout."""
LETTERS = {"{q}": "query", "{k}": "key", "{v}": "value"}
SOURCE = "an official GroupViT checkpoint"


def convert(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the entries of an official checkpoint, and remove axes of length one.

    Args:
        state_dict: the checkpoint's `model`, or the whole state dict of its network; or that of transformers'
            `GroupViTModel` (`nvidia/groupvit-gcc-yfcc`, `nvidia/groupvit-gcc-redcaps`).

    Returns:
        A state dict for the model of `configs/groupvit_cc3m-cc12m-yfcc14m.py` that loads strictly. For checkpoints
        without `multi_label_logit_scale`, which includes all of Hugging Face's, the config is
        `groupvit_cc3m-cc12m-redcaps12m.py`, or needs `model.head.multi_label.num_prompts=0`.

    Raises:
        ValueError: there are unknown entries, or required ones are missing; the message lists the first few.
    """
    if is_hugging_face(state_dict):
        state_dict = renamed(state_dict, HUGGING_FACE, "Hugging Face's GroupViT")
    shaped = {key: _shaped(key, value) for key, value in state_dict.items()}
    converted = rename_entries(shaped, RENAMED, SOURCE, _spell)
    if "head.transformer.norm.weight" not in converted:
        raise ValueError(f"not {SOURCE}: it lacks img_encoder.norm.weight")
    return converted


def _spell(name: str) -> str:
    """Replace `{q}`, `{k}` and `{v}` by query, key and value."""
    return re.sub(r"\{[qkv]\}", lambda letter: LETTERS[letter[0]], name)


def _shaped(key: str, value: Tensor) -> Tensor:
    """Drop the batch axis of the positions, and the length axis of convolutions that are linear layers."""
    if key == "img_encoder.pos_embed":
        return value[0]
    return value[:, :, 0] if "_projector." in key and value.ndim == 3 else value
