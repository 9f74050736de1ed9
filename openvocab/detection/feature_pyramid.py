"""A feature pyramid over the maps of any backbone."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from openvocab.argument_checks import check_choice, check_number, check_numbers
from openvocab.detection.norms import norm_layer
from openvocab.structures import BackboneSpec, ImageFeatures

ExtraLevels = Literal["subsample", "convolve", "retinanet"]


class FeaturePyramid(nn.Module):
    """A feature pyramid network over `hidden` maps, with coarser levels that are computed from its last one.

    Args:
        backbone: description of the backbone; `hidden_dims` and `hidden_strides` are used.
        layers: which `hidden` maps are the inputs, fine to coarse.
        dim: channels of every level.
        extra_levels: how many levels to add, each at twice the stride of the previous one.
        factors: scale by which each map is resampled, for backbones whose maps all have one stride (vision
            transformers): `(4, 2, 1, 0.5)` for patch 16. Default: the maps are not resampled.
        norm: after every convolution, see `norm_layer`.
        output_norm: on every level that is returned; sums and extra levels are computed from the values before it.
        extra: how an extra level is computed from the previous one: "subsample" it, or "convolve" it with stride 2 and
            padding at the right and bottom, as TensorFlow does. Official ViLD: "convolve", `output_norm`, no `norm`.
            "retinanet": convolve it with stride 2 and padding on all sides, from the second extra level on after a
            ReLU. Official GLIP: "retinanet" with two levels (P6 from P5, P7 from P6), no norm.

    Raises:
        ValueError: layers that the backbone does not have, a number of factors other than that of layers, levels that
            are not in order, an unknown choice.

    Reference: arXiv 1612.03144; with `factors` as in F-ViT (arXiv 2310.01403).
    """

    def __init__(
        self,
        backbone: BackboneSpec,
        layers: Sequence[int],
        dim: int = 256,
        extra_levels: int = 1,
        factors: Sequence[float] | None = None,
        norm: str | None = None,
        output_norm: str | None = None,
        extra: ExtraLevels = "subsample",
    ) -> None:
        super().__init__()
        check_numbers("layers", layers, whole=True)
        check_number("dim", dim, 1, whole=True)
        check_number("extra_levels", extra_levels, 0, whole=True)
        if factors is not None:
            check_numbers("factors", factors)
        count = len(backbone.hidden_dims)
        if not layers or any(not 0 <= layer < count for layer in layers):
            raise ValueError(f"layers: expected indices from 0 to {count - 1} of this backbone, got {list(layers)}")
        if factors is not None and len(factors) != len(layers):
            raise ValueError(f"factors: expected {len(layers)}, one per layer, got {list(factors)}")
        check_choice("extra", extra, get_args(ExtraLevels))
        self.layers, self.factors, self.extra_levels, self.dim = tuple(layers), factors, extra_levels, dim
        strides = [backbone.hidden_strides[layer] / factor for layer, factor in zip(layers, factors or [1] * count)]
        if sorted(set(strides)) != strides:
            raise ValueError(f"layers: expected maps from fine to coarse, got the strides {strides}; see factors")
        self.backbone_strides = tuple(strides)
        self.strides = (*strides, *(strides[-1] * 2**level for level in range(1, extra_levels + 1)))
        dims = [backbone.hidden_dims[layer] for layer in layers]
        self.network = FeaturePyramidNetwork(dims, dim, norm_layer=norm_layer(norm))
        self.extra = extra
        convolved = 0 if extra == "subsample" else extra_levels
        padding = 1 if extra == "retinanet" else 0
        self.extra_convs = nn.ModuleList(nn.Conv2d(dim, dim, 3, stride=2, padding=padding) for _ in range(convolved))
        make_norm = norm_layer(output_norm) or (lambda _: nn.Identity())
        self.output_norms = nn.ModuleList(make_norm(dim) for _ in self.strides)

    def forward(self, features: ImageFeatures) -> list[Tensor]:
        """Return a map (B, dim, h_i, w_i) for each of `strides`, fine to coarse."""
        maps = [features.hidden[layer] for layer in self.layers]
        if self.factors is not None:
            # a vision transformer has maps of one resolution, and the sums of the pyramid need several
            maps = [_resample(level, factor) for level, factor in zip(maps, self.factors)]
        levels = list(self.network({str(i): level for i, level in enumerate(maps)}).values())
        for i in range(self.extra_levels):
            levels.append(self._extra_level(i, levels[-1]))
        # after the extra levels, which are computed from values without this norm
        return [norm(level) for norm, level in zip(self.output_norms, levels)]

    def _extra_level(self, index: int, last: Tensor) -> Tensor:
        """Return extra level `index` from the level before it."""
        if self.extra == "subsample":
            return last[:, :, ::2, ::2]
        if self.extra == "convolve":
            # TensorFlow's "same" padding of an even map is uneven: nothing at the top and left
            return self.extra_convs[index](F.pad(last, (0, 2, 0, 2)))
        return self.extra_convs[index](last.relu() if index else last)


def _resample(level: Tensor, factor: float) -> Tensor:
    """Scale a map (B, C, h, w) to (B, C, factor * h, factor * w)."""
    if factor == 1:
        return level
    # in float32: torch has no antialiasing in bfloat16 on CPUs
    resampled = F.interpolate(level.float(), scale_factor=factor, mode="bilinear", antialias=factor < 1)
    return resampled.to(level.dtype)
