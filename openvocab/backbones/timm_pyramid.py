"""Reading the stages of a timm feature pyramid."""

from collections.abc import Collection

import torch
from torch import Tensor, nn

from openvocab.layers.recompute import check_recomputable
from openvocab.structures import BackboneSpec, ImageFeatures


class PyramidReader:
    """Reads the stages of a model that timm built with `features_only=True`.

    Args:
        visual: the model; the module that holds this reader owns it.
        checkpointing: recompute stages in the backward pass, where timm's model can.
    """

    def __init__(self, visual: nn.Module, checkpointing: bool) -> None:
        self.visual = visual
        self.checkpointing = checkpointing
        if checkpointing:
            visual.set_grad_checkpointing(True)

    @property
    def blocks(self) -> list[nn.Module]:
        """Parts of the model in order, stem first; a sequence of stages (MobileNet) counts as its stages."""
        parts: list[nn.Module] = []
        for part in self.visual.children():
            stages = list(part.children())
            sequence = isinstance(part, nn.Sequential) and all(isinstance(stage, nn.Sequential) for stage in stages)
            parts += stages if sequence and stages else [part]
        return parts

    def spec(self) -> BackboneSpec:
        """Return the facts that heads read; `hidden[i]` is stage i, fine to coarse."""
        info = self.visual.feature_info
        strides = tuple(info.reduction())
        return BackboneSpec(None, max(strides), tuple(info.channels()), strides)

    def __call__(self, images: Tensor, layers: Collection[int]) -> ImageFeatures:
        """Encode (B, 3, H, W); see `Backbone.forward`."""
        features = ImageFeatures(input_size=tuple(images.shape[-2:]))
        if self.checkpointing and torch.is_grad_enabled():
            check_recomputable(self.visual)
        stages = self.visual(images)
        features.hidden = {layer: stages[layer] for layer in layers}  # (B, C_i, h_i, w_i)
        return features
