"""Heads, each imported when its name is used."""

from openvocab.lazy_names import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".clip_on_regions": ["CLIPOnRegionsHead"],
        ".contrastive": ["ContrastiveHead"],
        ".dense_clip": ["DenseCLIPHead"],
        ".fvlm": ["FVLMHead"],
        ".groupvit": ["GroupViTHead"],
        ".groupvit_classifier": ["GroupViTClassifierHead"],
        ".linear": ["LinearHead"],
        ".lseg": ["LSegHead"],
        ".rfclip": ["RFCLIPHead"],
        ".talk2dino": ["Talk2DINOHead"],
        ".training_free": ["TrainingFreeHead"],
        ".vild": ["ViLDHead"],
    },
)
