"""Conversion of official GLIP checkpoints (microsoft/GLIP).

Three variants share the rules: GLIP-T (A), without fusion; GLIP-T (B), (C) and T; GLIP-L. They become a `SwinBackbone`,
a `BERTTextEncoder` and a `GLIPHead`.
"""

import re
from collections.abc import Mapping

from torch import Tensor

from openvocab.checkpoint.entry_renaming import Rules, rename_entries
from openvocab.converters.bert import GLIP_PREFIX

PREFIX = "module."
"""Of every entry of a checkpoint, from distributed training."""
DROPPED = (
    r".+\.relative_position_index",
    r"rpn\.anchor_generator\.cell_anchors\.\d+",
    r".+\.position_ids",
    r"rpn\.head\.cls_logits\..+",
)
"""Constants, which our model computes, and a classifier that officially gets no gradient."""
FIRST_CONVOLUTION = "backbone.body.patch_embed.proj.weight"
"""It reads blue, green, red; ours reads red, green, blue."""
BLOCK = r"rpn\.head\.dyhead_tower\.(\d+)"
BACKBONE: Rules = (
    (r"backbone\.body\.patch_embed\.(.+)", r"backbone.patch_embed.\1"),
    (r"backbone\.body\.layers\.(.+)", r"backbone.stages.\1"),
    (r"backbone\.body\.norm(\d)\.(.+)", r"backbone.output_norms.{\1 + 1}.\2"),
)
PYRAMID: Rules = (
    (r"backbone\.fpn\.fpn_inner(\d)\.(.+)", r"head.pyramid.network.inner_blocks.{\1 - 2}.0.\2"),
    (r"backbone\.fpn\.fpn_layer(\d)\.(.+)", r"head.pyramid.network.layer_blocks.{\1 - 2}.0.\2"),
    (r"backbone\.fpn\.top_blocks\.p(\d)\.(.+)", r"head.pyramid.extra_convs.{\1 - 6}.\2"),
)
FUSION: Rules = tuple(
    (rf"{BLOCK}\.b_attn\.{theirs}", rf"head.tower.blocks.<\1>.fusion.{ours}")
    for theirs, ours in (
        (r"gamma_v", "vision_gain"),
        (r"gamma_l", "text_gain"),
        (r"layer_norm_v\.(.+)", r"vision_norm.\2"),
        (r"layer_norm_l\.(.+)", r"text_norm.\2"),
        (r"attn\.v_proj\.(.+)", r"query.\2"),
        (r"attn\.l_proj\.(.+)", r"key.\2"),
        (r"attn\.values_v_proj\.(.+)", r"vision_value.\2"),
        (r"attn\.values_l_proj\.(.+)", r"text_value.\2"),
        (r"attn\.out_v_proj\.(.+)", r"vision_out.\2"),
        (r"attn\.out_l_proj\.(.+)", r"text_out.\2"),
    )
)
TEXT_LAYER: Rules = tuple(
    (rf"{BLOCK}\.{theirs}", rf"head.tower.blocks.<\1>.text_layer.{ours}")
    for theirs, ours in (
        (r"attention\.self\.(query|key|value)\.(.+)", r"\2.\3"),
        (r"attention\.output\.dense\.(.+)", r"out.\2"),
        (r"attention\.output\.LayerNorm\.(.+)", r"attention_norm.\2"),
        (r"intermediate\.dense\.(.+)", r"fc1.\2"),
        (r"output\.dense\.(.+)", r"fc2.\2"),
        (r"output\.LayerNorm\.(.+)", r"out_norm.\2"),
    )
)
DYNAMIC: Rules = tuple(
    (rf"{BLOCK}\.{theirs}", rf"head.tower.blocks.<\1>.dynamic.{ours}")
    for theirs, ours in (
        *(
            (rf"DyConv\.{i}\.conv\.(.+)", rf"from_{name}.conv.\2")
            for i, name in enumerate(("coarser", "same", "finer"))
        ),
        *((rf"DyConv\.{i}\.bn\.(.+)", rf"from_{name}.norm.\2") for i, name in enumerate(("coarser", "same", "finer"))),
        (r"AttnConv\.1\.(.+)", r"level_weight.\2"),
        (r"relu\.fc\.0\.(.+)", r"activation.fc1.\2"),
        (r"relu\.fc\.2\.(.+)", r"activation.fc2.\2"),
        (r"offset\.(.+)", r"sampling.\2"),
    )
)
PREDICTION: Rules = (
    (r"rpn\.head\.bbox_pred\.(.+)", r"head.box_offsets.\1"),
    (r"rpn\.head\.centerness\.(.+)", r"head.centerness.\1"),
    (r"rpn\.head\.scales\.(\d+)\.scale", r"head.level_scales.\1"),
    (r"rpn\.head\.dot_product_projection_text\.(.+)", r"head.alignment.project.\1"),
    (r"rpn\.head\.log_scale", r"head.alignment.log_scale"),
    (r"rpn\.head\.bias_lang", r"head.alignment.token_bias"),
    (r"rpn\.head\.bias0", r"head.alignment.bias"),
    (r"rpn\.head\.tunable_linear\.weight", r"head.token_offset"),
)
TEXT: Rules = ((rf"{re.escape(GLIP_PREFIX)}(.+)", r"text_encoder.bert.\1"),)
RULES: Rules = (*BACKBONE, *PYRAMID, *FUSION, *TEXT_LAYER, *DYNAMIC, *PREDICTION, *TEXT)
SOURCE = "an official GLIP checkpoint"
FUSED_PARTS = 3
"""Entries of the official tower per fused block: fusion, text layer, dynamic head block."""


def convert(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the entries of an official checkpoint, drop constants, and let the first convolution read RGB.

    Args:
        state_dict: the checkpoint's `model`, with or without the prefix of distributed training.

    Returns:
        A state dict for the model of the config of the same variant that loads strictly.

    Raises:
        ValueError: there are unknown entries, or required ones are missing; the message lists the first few.
    """
    entries = {key.removeprefix(PREFIX): value for key, value in state_dict.items()}
    if FIRST_CONVOLUTION not in entries:
        raise ValueError(f"not {SOURCE}: it lacks {FIRST_CONVOLUTION}")
    entries[FIRST_CONVOLUTION] = entries[FIRST_CONVOLUTION].flip(1)
    variable = {key: value for key, value in entries.items() if not any(re.fullmatch(rule, key) for rule in DROPPED)}
    parts = FUSED_PARTS if any(".b_attn." in key for key in variable) else 1
    return rename_entries(variable, RULES, SOURCE, lambda name: _spell(name, parts), num_entries=len(state_dict))


def _spell(name: str, parts: int) -> str:
    """Compute the numbers in braces, and in angle brackets the block of an entry of the tower."""
    name = re.sub(r"<(\d+)>", lambda entry: str(int(entry[1]) // parts), name)
    return re.sub(r"\{(\d+) ([+-]) (\d)\}", lambda sum_: str(int(sum_[1]) + int(sum_[2] + sum_[3])), name)
