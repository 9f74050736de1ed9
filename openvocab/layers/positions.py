"""Resampling learned position embeddings to another grid size."""

from typing import Literal, get_args

import torch.nn.functional as F
from torch import Tensor, cat

from openvocab.argument_checks import check_choice
from openvocab.structures import Size

PositionResize = Literal["bicubic", "bilinear", "bicubic_plain", "bicubic_offset"]
POSITION_RESIZE_MODES: tuple[str, ...] = get_args(PositionResize)
OFFSET = 0.1
"""Part of a grid cell that DINO adds to the target size, so that rounding never loses a row."""


def resize_positions(positions: Tensor, grid_from: Size, grid_to: Size, method: PositionResize = "bicubic") -> Tensor:
    """Resample the grid part of position embeddings; return them unchanged if the grid is the same.

    Args:
        positions: (P + h * w, C), the P >= 0 prefix positions first; these stay unchanged.
        grid_from, grid_to: (h, w) before and after.
        method: "bicubic": with antialiasing, as in open_clip. "bilinear": without antialiasing, as in LSeg.
            "bicubic_plain": without antialiasing, as in GroupViT and MaskCLIP (torch's two bicubic kernels differ even
            when enlarging). "bicubic_offset": as in DINO and the training-free readouts; without antialiasing, by the
            scale factors (h' + 0.1) / h and (w' + 0.1) / w, which also set the sampling points,
            (target + 0.5) / factor - 0.5.

    Returns:
        (P + h' * w', C), computed in float32, in the dtype of `positions`.
    """
    check_position_resize(method)
    if tuple(grid_from) == tuple(grid_to):
        return positions
    height, width = grid_to
    count = grid_from[0] * grid_from[1]  # prefix positions come first and are not resampled
    prefix, grid = positions[:-count], positions[-count:]
    maps = grid.float().T.reshape(1, -1, *grid_from)  # (1, C, h, w)
    maps = _resize_maps(maps, (height, width), method)
    return cat([prefix, maps.flatten(2)[0].T.to(positions.dtype)])  # (P + h' * w', C)


def check_position_resize(method: str) -> None:
    """Raise `ValueError` for an unknown resampling method."""
    check_choice("position_resize", method, POSITION_RESIZE_MODES)


def _resize_maps(maps: Tensor, size: Size, method: PositionResize) -> Tensor:
    """Resample maps (1, C, h, w) to (1, C, *size)."""
    if method == "bicubic_offset":
        # recompute_scale_factor=False: torch then samples with these factors, not with those of the rounded sizes.
        factors = [(target + OFFSET) / source for target, source in zip(size, maps.shape[-2:])]
        return F.interpolate(maps, scale_factor=factors, mode="bicubic", recompute_scale_factor=False)
    mode, antialias = method.removesuffix("_plain"), method == "bicubic"
    return F.interpolate(maps, size=size, mode=mode, antialias=antialias, align_corners=False)
