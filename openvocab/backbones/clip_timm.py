"""Convolutional towers that open_clip takes from timm: ConvNeXt, FastViT (MobileCLIP)."""

from collections.abc import Collection

from open_clip.timm_model import TimmModel
from torch import Tensor, nn

from openvocab.backbones.readouts import Plain, Readout
from openvocab.layers.positions import PositionResize
from openvocab.layers.recompute import recompute
from openvocab.structures import BackboneSpec, ImageFeatures


class ConvNetReader:
    """Reads pooled, dense and hidden features from a stem-and-stages tower of timm without changing it.

    Patch embeddings are the tower's own head (norm, projection) applied to each place as if it were the whole map.

    Args:
        visual: the tower; the module that holds this reader owns it.
        readout: must be "clip".
        position_resize: unused, these towers have no position embeddings.
        checkpointing: recompute the stages in the backward pass.

    Raises:
        ValueError: another readout, or a tower of another build.
    """

    tail = ("trunk.norm_pre", "trunk.final_conv", "trunk.head", "head")

    def __init__(
        self, visual: TimmModel, readout: Readout, position_resize: PositionResize, checkpointing: bool
    ) -> None:
        trunk = visual.trunk
        if not (hasattr(trunk, "stem") and hasattr(trunk, "stages") and hasattr(trunk, "feature_info")):
            raise ValueError(
                f"timm tower {type(trunk).__name__} is not supported; expected a stem and stages (ConvNeXt)"
            )
        if not isinstance(readout, Plain):
            raise ValueError(f"{type(trunk).__name__} has no last attention to read from; use readout='clip'")
        self.visual = visual
        self.checkpointing = checkpointing

    @property
    def blocks(self) -> list[nn.Module]:
        """Stages in order."""
        return list(self.visual.trunk.stages)

    def spec(self) -> BackboneSpec:
        """Return the facts that heads read; `hidden[0]` leaves the stem, `hidden[i]` stage i."""
        levels = list(self.visual.trunk.feature_info)
        if len(levels) == len(self.blocks):  # ConvNeXt lists its stages only; the stem has the facts of the first
            levels.insert(0, levels[0])
        dims = tuple(level["num_chs"] for level in levels)
        strides = tuple(level["reduction"] for level in levels)
        return BackboneSpec(self._embed_dim(), strides[-1], dims, strides)

    def __call__(self, images: Tensor, layers: Collection[int], embed: bool) -> ImageFeatures:
        """Encode (B, 3, H, W); see `Backbone.forward`."""
        features = ImageFeatures(input_size=tuple(images.shape[-2:]))
        trunk = self.visual.trunk
        maps = trunk.stem(images)
        if 0 in layers:
            features.hidden[0] = maps
        stages = self.blocks if embed else self.blocks[: max(layers, default=0)]
        for i, stage in enumerate(stages, start=1):
            maps = self._run(stage, maps)
            if i in layers:
                features.hidden[i] = maps
        if embed:
            maps = self._finish(maps)
            features.image_embed = self._project(maps)
            features.patch_embed = self._project_places(maps)
        features.pool = lambda regions: self._project(self._finish(regions))
        return features

    def _run(self, stage: nn.Module, maps: Tensor) -> Tensor:
        return recompute(stage, maps) if self.checkpointing else stage(maps)

    def _finish(self, maps: Tensor) -> Tensor:
        """Do what follows the last stage, (B, C, h, w)."""
        trunk = self.visual.trunk
        return trunk.norm_pre(maps) if hasattr(trunk, "norm_pre") else trunk.final_conv(maps)

    def _project(self, maps: Tensor) -> Tensor:
        """Pool (B, C, h, w) and map it to the joint space, (B, D)."""
        return self.visual.head(self.visual.trunk.forward_head(maps))

    def _project_places(self, maps: Tensor) -> Tensor:
        """Map each place to the joint space, (B, D, h, w); the pool of one place is that place."""
        batch, channels, height, width = maps.shape
        places = maps.permute(0, 2, 3, 1).reshape(-1, channels, 1, 1)  # (B * h * w, C, 1, 1)
        return self._project(places).view(batch, height, width, -1).permute(0, 3, 1, 2)  # (B, D, h, w)

    def _embed_dim(self) -> int:
        linear = [part for part in self.visual.modules() if isinstance(part, nn.Linear)]
        return linear[-1].out_features
