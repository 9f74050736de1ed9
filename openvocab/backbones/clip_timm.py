"""Features of the convolutional towers that open_clip builds with timm: ConvNeXt, FastViT (MobileCLIP)."""

from collections.abc import Collection

from open_clip.timm_model import TimmModel
from torch import Tensor, nn

from openvocab.backbones.readouts import Plain, Readout
from openvocab.layers.positions import PositionResize
from openvocab.layers.recompute import recompute
from openvocab.structures import BackboneSpec, ImageFeatures, size_of


class ConvNetReader:
    """Computes pooled, dense and hidden features of a timm tower with a stem and stages, without changing it.

    The patch embedding of a cell is the output of the tower's own head (norm, projection) if the cell were the whole
    map.

    Args:
        visual: the tower; owned by the module that holds this reader.
        readout: must be "clip".
        position_resize: unused, since these towers have no position embeddings.
        checkpointing: recompute the stages in the backward pass.

    Raises:
        ValueError: the readout is not "clip", or the tower has no stem and stages.
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
            raise ValueError(f"{type(trunk).__name__} has no attention for a readout; use readout='clip'")
        self.visual = visual
        self.checkpointing = checkpointing

    @property
    def blocks(self) -> list[nn.Module]:
        """Stages in order."""
        return list(self.visual.trunk.stages)

    def spec(self) -> BackboneSpec:
        """Return widths and strides; `hidden[0]` is the output of the stem, `hidden[i]` of stage i."""
        levels = list(self.visual.trunk.feature_info)
        # ConvNeXt lists its stages only; its stem has the width and stride of the first stage
        if len(levels) == len(self.blocks):
            levels.insert(0, levels[0])
        dims = tuple(level["num_chs"] for level in levels)
        strides = tuple(level["reduction"] for level in levels)
        return BackboneSpec(self._embed_dim(), strides[-1], dims, strides)

    def __call__(self, images: Tensor, layers: Collection[int], embed: bool) -> ImageFeatures:
        """Encode (B, 3, H, W); see `Backbone.forward`."""
        features = ImageFeatures(input_size=size_of(images))
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
            features.patch_embed = self._project_cells(maps)
        # Regions come from the last `hidden` map, which does not include the layer after the last stage.
        features.pool = lambda regions: self._project(self._finish(regions))
        return features

    def _run(self, stage: nn.Module, maps: Tensor) -> Tensor:
        return recompute(stage, maps) if self.checkpointing else stage(maps)

    def _finish(self, maps: Tensor) -> Tensor:
        """Apply the layer after the last stage to maps (B, C, h, w)."""
        trunk = self.visual.trunk
        return trunk.norm_pre(maps) if hasattr(trunk, "norm_pre") else trunk.final_conv(maps)

    def _project(self, maps: Tensor) -> Tensor:
        """Pool maps (B, C, h, w) and project them to the joint space, (B, D)."""
        return self.visual.head(self.visual.trunk.forward_head(maps))

    def _project_cells(self, maps: Tensor) -> Tensor:
        """Project every cell to the joint space, (B, D, h, w); a map of one cell is unchanged by the pooling."""
        batch, channels, height, width = maps.shape
        cells = maps.permute(0, 2, 3, 1).reshape(-1, channels, 1, 1)  # (B * h * w, C, 1, 1)
        return self._project(cells).view(batch, height, width, -1).permute(0, 3, 1, 2)  # (B, D, h, w)

    def _embed_dim(self) -> int:
        linear = [part for part in self.visual.modules() if isinstance(part, nn.Linear)]
        return linear[-1].out_features
