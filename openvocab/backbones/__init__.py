"""Image backbones, each imported when its name is used."""

from openvocab.lazy_names import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".clip": ["CLIPBackbone"],
        ".conse": ["ConSEBackbone"],
        ".dino": ["DINOBackbone"],
        ".patch_embedding": ["PatchEmbedding"],
        ".proxyclip": ["ProxyCLIPBackbone"],
        ".timm_backbone": ["TimmBackbone"],
    },
)
