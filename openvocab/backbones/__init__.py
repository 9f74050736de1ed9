"""Image backbones, each imported when its name is used."""

from openvocab.lazy_names import lazy_names

__all__, __getattr__, __dir__ = lazy_names(
    __name__,
    {
        ".clip": ["CLIPBackbone"],
        ".conse": ["ConSEBackbone"],
        ".patch_embedding": ["PatchEmbedding"],
        ".timm_backbone": ["TimmBackbone"],
    },
)
