"""Hooks of training and testing, each imported when its name is used."""

from openvocab.lazy_names import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".bad_sample_hook": ["BadSampleHook"],
        ".checkpoint_hook": ["CheckpointHook"],
        ".clamp_logit_scale": ["ClampLogitScale"],
        ".picture_hook": ["PictureHook"],
    },
)
