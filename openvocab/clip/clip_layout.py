"""Conversion of the known layouts of CLIP weights to open_clip's names; pure functions that do not need open_clip."""

from collections.abc import Mapping

from torch import Tensor

from openvocab.clip.hugging_face_layout import clip_from_hugging_face, is_hugging_face

OPENAI_MARKERS = ("input_resolution", "context_length", "vocab_size")
"""Entries other than weights that only OpenAI's archives contain."""
OLD_TEXT_KEYS = ("text_projection", "positional_embedding", "token_embedding", "transformer", "ln_final")
OUR_PREFIXES = {"backbone.visual.": "visual.", "text_encoder.text.": "text.", "text_encoder.logit_": "logit_"}


def clip_layout(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the entries of a file to those of `open_clip.CustomTextCLIP`; drop those that are not part of a CLIP.

    Raises:
        ValueError: a file in Hugging Face's layout has entries that its CLIP and SigLIP do not have.
    """
    state = {key.removeprefix("module."): value for key, value in state.items()}
    if is_hugging_face(state):
        return clip_from_hugging_face(state)
    if any(key.startswith("backbone.visual.") for key in state):
        return {
            new + key.removeprefix(old): value
            for key, value in state.items()
            for old, new in OUR_PREFIXES.items()
            if key.startswith(old)
        }
    state = {key: value for key, value in state.items() if key not in OPENAI_MARKERS}
    if "text_projection" not in state:
        return state
    return {f"text.{key}" if key.startswith(OLD_TEXT_KEYS) else key: value for key, value in state.items()}
