"""Vocabularies, prompt templates and text encoders; each encoder is imported when its name is used."""

from openvocab.lazy_names import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".clip_text": ["CLIPTextEncoder"],
        ".one_hot": ["OneHotTextEncoder"],
        ".precomputed": ["PrecomputedTextEncoder"],
    },
)
