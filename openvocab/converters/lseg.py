"""Official LSeg checkpoints (isl-org/lang-seg, Lightning) in the names of an `OpenVocabModel`.

Two networks are known: the ViT (ADE20K demo, few-shot) and the zero-shot ResNet-101. Both become a `TimmBackbone`, a
`CLIPTextEncoder` and an `LSegHead`.

The weights know the texts that they were trained on: `lseg_ade_150` (the demo's), `lseg_pascal_20`, `lseg_coco_80` and
the folders of FSS-1000 (few-shot). The configs of these networks take them.
"""

import re
from collections.abc import Mapping

from torch import Tensor

from openvocab.checkpoint.entry_renaming import rename_entries

LIGHTNING_PREFIX = "net."
DROPPED = (
    r"clip_pretrained\.visual\.",  # CLIP's image tower: carried along, never run
    r"pretrained\.model\.(norm|head|fc_norm)\.",  # evaluated, but its result is not read
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
    """Rename the entries of an official checkpoint; values are not touched, parts without use are left out.

    Args:
        state_dict: the checkpoint's `state_dict` with Lightning's prefix, or the network's own.

    Returns:
        What `OpenVocabModel.load_state_dict` takes strictly when built as `configs/lseg_ade.py`.

    Raises:
        ValueError: entries that LSeg does not have, or none of its entries; the first are listed.
    """
    network = _network_entries(state_dict)
    kept = {key: value for key, value in network.items() if not any(re.match(rule, key) for rule in DROPPED)}
    return rename_entries(kept, RENAMED, "an official LSeg checkpoint", _spell)


def _network_entries(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the network's entries without Lightning's prefix; entries of metrics beside the network are dropped."""
    inside = {
        key.removeprefix(LIGHTNING_PREFIX): value
        for key, value in state_dict.items()
        if key.startswith(LIGHTNING_PREFIX)
    }
    return inside or dict(state_dict)


def _spell(name: str) -> str:
    """Count levels from 0 (official ones count from 1, fine to coarse as ours), and call norms so."""
    name = re.sub(r"\{(\d) - 1\}", lambda found: str(int(found[1]) - 1), name)
    return re.sub(r"_?unit\.bn", lambda found: found[0].replace("bn", "norm"), name)
