"""Conversion of official LSeg checkpoints (isl-org/lang-seg, Lightning).

Two networks are supported: the ViT (ADE20K demo, few-shot) and the zero-shot ResNet-101. Both become a `TimmBackbone`,
a `CLIPTextEncoder` and an `LSegHead`.

The networks were trained with the class names `lseg_ade_150` (the demo's), `lseg_pascal_20`, `lseg_coco_80` and the
folders of FSS-1000 (few-shot), which their configs use.
"""

import re
from collections.abc import Mapping

from torch import Tensor

from openvocab.checkpoint.entry_renaming import rename_entries

LIGHTNING_PREFIX = "net."
DROPPED = (
    r"clip_pretrained\.visual\.",  # CLIP's image tower, which is never run
    r"pretrained\.model\.(norm|head|fc_norm)\.",  # computed, but not used
    r"scratch\.refinenet4\.resConfUnit1\.",  # the coarsest level has no skip
)
RENAMED = (
    (r"clip_pretrained\.logit_scale", "text_encoder.logit_scale"),
    (r"clip_pretrained\.(.+)", r"text_encoder.text.\1"),
    (r"pretrained\.model\.(.+)", r"backbone.visual.\1"),
    (r"pretrained\.layer1\.0\.(.+)", r"backbone.visual.conv1.\1"),
    (r"pretrained\.layer1\.1\.(.+)", r"backbone.visual.bn1.\1"),
    (r"pretrained\.layer1\.4\.(.+)", r"backbone.visual.layer1.\1"),
    (r"pretrained\.layer([234])\.(.+)", r"backbone.visual.layer\1.\2"),
    (r"pretrained\.act_postprocess(\d)\.0\.project\.0\.(.+)", r"head.reassemble.{\1 - 1}.readout.\2"),
    (r"pretrained\.act_postprocess(\d)\.3\.(.+)", r"head.reassemble.{\1 - 1}.project.\2"),
    (r"pretrained\.act_postprocess(\d)\.4\.(.+)", r"head.reassemble.{\1 - 1}.resize.\2"),
    (r"scratch\.layer(\d)_rn\.(.+)", r"head.decoder.inputs.{\1 - 1}.\2"),
    (r"scratch\.refinenet(\d)\.out_conv\.(.+)", r"head.decoder.fusions.{\1 - 1}.out.\2"),
    (r"scratch\.refinenet(\d)\.resConfUnit1\.(.+)", r"head.decoder.fusions.{\1 - 1}.skip_unit.\2"),
    (r"scratch\.refinenet(\d)\.resConfUnit2\.(.+)", r"head.decoder.fusions.{\1 - 1}.unit.\2"),
    (r"scratch\.head1\.(.+)", r"head.embed.\1"),
    (r"scratch\.head_block\.(?:.+\.)?(weight|bias)", r"head.block.conv.\1"),
)


def convert(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the entries of an official checkpoint, and drop those of unused layers; values do not change.

    Args:
        state_dict: the checkpoint's `state_dict` with Lightning's prefix, or the network's own.

    Returns:
        A state dict for the model of `configs/lseg_ade.py` that loads strictly.

    Raises:
        ValueError: there are unknown entries, or none of LSeg's; the message lists the first few.
    """
    network = _network_entries(state_dict)
    entries = {key: value for key, value in network.items() if not any(re.match(rule, key) for rule in DROPPED)}
    return rename_entries(entries, RENAMED, "an official LSeg checkpoint", _spell)


def _network_entries(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the network's entries without Lightning's prefix; other entries, such as those of metrics, are dropped."""
    inside = {
        key.removeprefix(LIGHTNING_PREFIX): value
        for key, value in state_dict.items()
        if key.startswith(LIGHTNING_PREFIX)
    }
    return inside or dict(state_dict)


def _spell(name: str) -> str:
    """Number levels from 0 (official ones start at 1, also fine to coarse), and rename `bn` to `norm`."""
    name = re.sub(r"\{(\d) - 1\}", lambda level: str(int(level[1]) - 1), name)
    return re.sub(r"_?unit\.bn", lambda part: part[0].replace("bn", "norm"), name)
