"""The neck of the dense prediction transformer (DPT): maps of several depths become one fine map.

Reference: Ranftl et al., Vision Transformers for Dense Prediction (arXiv 2103.13413), with the settings of LSeg.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from openvocab.argument_checks import check_choice
from openvocab.ops.linear_layers import convolve_and_norm, project_readout
from openvocab.ops.upsampled_cosine import upsample

CLASS_TOKEN_READOUTS = ("project", "ignore")


class Reassemble(nn.Module):
    """Turn the tokens of one depth into a map of another resolution.

    Args:
        in_dim: C of the tokens.
        out_dim: channels of the map.
        factor: resolution of the map relative to the token grid: a whole number, or 0.5 (odd sizes are rounded up).
        readout: `project` mixes the class token into every patch token; `ignore` drops it.

    Raises:
        ValueError: an unknown readout or factor.
    """

    def __init__(self, in_dim: int, out_dim: int, factor: float, readout: str = "project") -> None:
        super().__init__()
        check_choice("readout", readout, CLASS_TOKEN_READOUTS)
        self.readout = nn.Linear(2 * in_dim, in_dim) if readout == "project" else None
        self.project = nn.Conv2d(in_dim, out_dim, 1)
        self.resize = _resize_layer(out_dim, factor)

    def forward(self, tokens: Tensor, class_token: Tensor | None) -> Tensor:
        """Map tokens (B, C, h, w) and their class token (B, C) to (B, out_dim, factor * h, factor * w).

        Raises:
            ValueError: the readout is `project` and there is no class token.
        """
        if self.readout is not None:
            if class_token is None:
                raise ValueError(
                    "readout 'project' needs a class token, which this backbone does not have; set readout='ignore'"
                )
            tokens = F.gelu(project_readout(self.readout, tokens, class_token))  # (B, C, h, w)
        return self.resize(self.project(tokens))


def is_factor(factor: float) -> bool:
    """Return whether `Reassemble` takes a factor: a whole number of at least 1, or 0.5."""
    return factor == 0.5 or (factor >= 1 and factor == int(factor))


def _resize_layer(dim: int, factor: float) -> nn.Module:
    """Return the learned resize of DPT: a transposed convolution upwards, a strided convolution downwards."""
    if factor == 0.5:
        return nn.Conv2d(dim, dim, 3, stride=2, padding=1)
    if not is_factor(factor):
        raise ValueError(f"reassemble factor: expected a whole number or 0.5, got {factor}")
    factor = int(factor)
    return nn.Identity() if factor == 1 else nn.ConvTranspose2d(dim, dim, factor, stride=factor)


class ResidualUnit(nn.Module):
    """Two times (ReLU, 3x3 convolution, batch norm), added to the input."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(dim, dim, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(dim)
        self.conv2 = nn.Conv2d(dim, dim, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(dim)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape (B, C, h, w)."""
        # the first ReLU is not in place: x is added below
        inner = F.relu(convolve_and_norm(self.conv1, self.norm1, F.relu(x)), inplace=True)
        return x + convolve_and_norm(self.conv2, self.norm2, inner)


class Fusion(nn.Module):
    """Add a finer map to the fused one and refine the sum. The caller upsamples.

    The paper upsamples before the 1x1 convolution. Both are linear and the bilinear weights sum to one, so that the
    order is free; this one costs a quarter.

    Args:
        dim: C.
        has_skip: whether a finer map is added; False for the coarsest level.
    """

    def __init__(self, dim: int, has_skip: bool) -> None:
        super().__init__()
        self.skip_unit = ResidualUnit(dim) if has_skip else None
        self.unit = ResidualUnit(dim)
        self.out = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        """Fuse x with a finer map.

        Args:
            x: (B, C, h, w).
            skip: (B, C, h', w'), resized to x if an odd grid made them differ.

        Returns:
            (B, C, h, w).
        """
        if skip is not None and self.skip_unit is not None:
            if skip.shape[-2:] != x.shape[-2:]:
                skip = F.interpolate(skip, size=x.shape[-2:], mode="bilinear", align_corners=False)
            x = x + self.skip_unit(skip)
        return self.out(self.unit(x))


class DPTDecoder(nn.Module):
    """Project maps of several depths to one width and fuse them from coarse to fine; each doubles the resolution.

    Args:
        in_dims: channels of each map, fine to coarse.
        features: width of the decoder.
    """

    def __init__(self, in_dims: Sequence[int], features: int = 256) -> None:
        super().__init__()
        self.inputs = nn.ModuleList(nn.Conv2d(dim, features, 3, padding=1, bias=False) for dim in in_dims)
        last = len(in_dims) - 1
        self.fusions = nn.ModuleList(Fusion(features, has_skip=level < last) for level in range(len(in_dims)))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Fuse maps [(B, C_i, h_i, w_i)], fine to coarse.

        Returns:
            (B, features, h, w) at the resolution of the finest map: DPT's output before its last upsampling by two,
            which commutes with the linear layers that follow.
        """
        levels = [conv(level) for conv, level in zip(self.inputs, maps, strict=True)]  # (B, features, h_i, w_i) each
        fused = self.fusions[-1](levels[-1])
        for fusion, level in zip(reversed(self.fusions[:-1]), reversed(levels[:-1])):
            fused = fusion(upsample(fused), level)
        return fused
