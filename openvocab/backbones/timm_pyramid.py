"""Features of a timm model with several stages."""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor, nn

from openvocab.layers.recompute import check_recomputable
from openvocab.structures import BackboneSpec, ImageFeatures, size_of


class PyramidReader:
    """Computes the stages of a model that timm built with `features_only=True`.

    Args:
        visual: the model; owned by the module that holds this reader.
        checkpointing: recompute stages in the backward pass, if timm's model supports it.
    """

    def __init__(self, visual: nn.Module, checkpointing: bool) -> None:
        self.visual = visual
        self.checkpointing = checkpointing
        if checkpointing:
            model: Any = visual  # timm's feature extractors have no common type
            model.set_grad_checkpointing(True)

    @property
    def blocks(self) -> list[nn.Module]:
        """Parts of the model in order, stem first; a sequence of stages (MobileNet) is replaced by its stages."""
        parts: list[nn.Module] = []
        for part in self.visual.children():
            stages = list(part.children())
            sequence = isinstance(part, nn.Sequential) and all(isinstance(stage, nn.Sequential) for stage in stages)
            parts += stages if sequence and stages else [part]
        return parts

    def spec(self) -> BackboneSpec:
        """Return widths and strides; `hidden[i]` is stage i, fine to coarse."""
        info: Any = self.visual.feature_info
        strides = tuple(info.reduction())
        return BackboneSpec(None, max(strides), tuple(info.channels()), strides)

    def __call__(self, images: Tensor, layers: Collection[int]) -> ImageFeatures:
        """Encode (B, 3, H, W); see `Backbone.forward`."""
        features = ImageFeatures(input_size=size_of(images))
        if self.checkpointing and torch.is_grad_enabled():
            check_recomputable(self.visual)
        # timm's extractor computes the stages that it was built with, whichever are requested here.
        stages = self.visual(images)
        features.hidden = {layer: stages[layer] for layer in layers}  # (B, C_i, h_i, w_i)
        return features
