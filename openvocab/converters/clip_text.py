"""Conversion of the text tower of a CLIP checkpoint to the names of an `OpenVocabModel`."""

from collections.abc import Mapping

from torch import Tensor

from openvocab.clip.clip_layout import clip_layout


def text_tower(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of a `CLIPTextEncoder`, as float32.

    Args:
        state_dict: of a CLIP in OpenAI's, open_clip's or Hugging Face's layout, or of an `OpenVocabModel`.

    Raises:
        ValueError: it has no text tower.
    """
    clip = clip_layout(state_dict)
    tower = {f"text_encoder.{key}": value.float() for key, value in clip.items() if key.startswith("text.")}
    if not tower or "logit_scale" not in clip:
        raise ValueError(f"no CLIP with a text tower: {', '.join(list(state_dict)[:4]) or 'no entries'}")
    return tower | {"text_encoder.logit_scale": clip["logit_scale"].float()}
