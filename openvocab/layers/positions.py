"""Learned position embeddings at another grid size."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, cat

from openvocab.argument_checks import check_choice
from openvocab.structures import Size

PositionResize = Literal["bicubic", "bilinear", "bicubic_plain", "bicubic_offset"]
POSITION_RESIZE_MODES = ("bicubic", "bilinear", "bicubic_plain", "bicubic_offset")
OFFSET = 0.1
"""Of a node, which DINO adds to the size so that rounding never loses a row."""


def resize_positions(positions: Tensor, grid_from: Size, grid_to: Size, method: PositionResize = "bicubic") -> Tensor:
    """Resample the grid part of `positions`; at the grid they were trained on they are returned as they are.

    Args:
        positions: (P + h * w, C), P >= 0 prefix positions first; they are kept.
        grid_from, grid_to: (h, w) before and after.
        method: "bicubic" with antialiasing, as open_clip does it, "bilinear" without, as LSeg does, "bicubic_plain"
            without, as GroupViT and MaskCLIP do (torch's two bicubic kernels differ even where they enlarge), or
            "bicubic_offset", as DINO and the training-free readouts do: plain, by the factors (h' + 0.1) / h and
            (w' + 0.1) / w, which also place the samples, at (target + 0.5) / factor - 0.5.

    Returns:
        (P + h' * w', C), float32 arithmetic, the type of `positions`.
    """
    check_position_resize(method)
    if tuple(grid_from) == tuple(grid_to):
        return positions
    count = grid_from[0] * grid_from[1]
    prefix, grid = positions[:-count], positions[-count:]
    maps = grid.float().T.reshape(1, -1, *grid_from)  # (1, C, h, w)
    maps = _resize_maps(maps, tuple(grid_to), method)
    return cat([prefix, maps.flatten(2)[0].T.to(positions.dtype)])  # (P + h' * w', C)


def check_position_resize(method: str) -> None:
    """Raise `ValueError` for an unknown way of resampling."""
    check_choice("position_resize", method, POSITION_RESIZE_MODES)


def _resize_maps(maps: Tensor, size: Size, method: PositionResize) -> Tensor:
    if method == "bicubic_offset":
        factors = [(target + OFFSET) / source for target, source in zip(size, maps.shape[-2:])]
        return F.interpolate(maps, scale_factor=factors, mode="bicubic", recompute_scale_factor=False)
    mode, antialias = method.removesuffix("_plain"), method == "bicubic"
    return F.interpolate(maps, size=size, mode=mode, antialias=antialias, align_corners=False)
