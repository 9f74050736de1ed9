"""Conversion of OWLv2 checkpoints of Hugging Face's transformers."""

from collections.abc import Mapping

from torch import Tensor

from openvocab.checkpoint.entry_renaming import Rules, rename_entries
from openvocab.clip.hugging_face_layout import clip_from_hugging_face

CLIP = "owlv2."
CLIP_OURS = {"visual.": "backbone.visual.", "text.": "text_encoder.text.", "logit_": "text_encoder.logit_"}
DENSE = {"0": "0", "1": "2", "2": "4"}
"""{index of a linear layer there: index in our sequence, which has the activations, too}."""
HEAD: Rules = (
    (r"layer_norm\.(.+)", r"head.merged_norm.\1"),
    (r"class_head\.dense0\.(.+)", r"head.class_embed.\1"),
    (r"class_head\.(logit_shift|logit_scale)\.(.+)", r"head.\1.\2"),
    *((rf"box_head\.dense{i}\.(.+)", rf"head.box_mlp.{j}.\1") for i, j in DENSE.items()),
    *((rf"objectness_head\.dense{i}\.(.+)", rf"head.objectness_mlp.{j}.\1") for i, j in DENSE.items()),
)
SOURCE = "an OWLv2 checkpoint of transformers"


def convert(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the entries of a checkpoint; the norm after the image tower is also copied to the head, which applies it.

    Args:
        state_dict: of `Owlv2ForObjectDetection` (`google/owlv2-base-patch16-ensemble` and others).

    Returns:
        A state dict for the model of `configs/owlv2_coco.py` that loads strictly.

    Raises:
        ValueError: there are unknown entries, or required ones are missing; the message lists the first few.
    """
    parts = {key: value for key, value in state_dict.items() if not key.startswith(CLIP)}
    converted = rename_entries(parts, HEAD, SOURCE, num_entries=len(state_dict))
    clip = clip_from_hugging_face(
        {
            # CLIP's layout has a spelling mistake here, OWLv2's has not
            key.removeprefix(CLIP).replace(".pre_layernorm.", ".pre_layrnorm."): value
            for key, value in state_dict.items()
            if key.startswith(CLIP)
        }
    )
    for old, new in CLIP_OURS.items():
        converted |= {new + key.removeprefix(old): value for key, value in clip.items() if key.startswith(old)}
    for name in ("weight", "bias"):
        norm = f"backbone.visual.ln_post.{name}"
        if norm not in converted:
            raise ValueError(f"not {SOURCE}: it lacks {CLIP}vision_model.post_layernorm.{name}")
        converted[f"head.token_norm.{name}"] = converted[norm].clone()
    return converted
