"""Learned position embeddings at another grid size."""

import torch.nn.functional as F
from torch import Tensor, cat

from openvocab.structures import Size

POSITION_RESIZE_MODES = ("bicubic", "bilinear", "bicubic_plain")


def resize_positions(positions: Tensor, grid_from: Size, grid_to: Size, method: str = "bicubic") -> Tensor:
    """Resample the grid part of `positions`; at the grid they were trained on they are returned as they are.

    Args:
        positions: (P + h * w, C), P >= 0 prefix positions first; they are kept.
        grid_from, grid_to: (h, w) before and after.
        method: "bicubic" with antialiasing, as open_clip does it, "bilinear" without, as LSeg does, or "bicubic_plain"
            without, as GroupViT does (torch's two bicubic kernels differ even where they enlarge).

    Returns:
        (P + h' * w', C), float32 arithmetic, the type of `positions`.
    """
    check_position_resize(method)
    if tuple(grid_from) == tuple(grid_to):
        return positions
    count = grid_from[0] * grid_from[1]
    prefix, grid = positions[:-count], positions[-count:]
    maps = grid.float().T.reshape(1, -1, *grid_from)  # (1, C, h, w)
    mode, antialias = method.removesuffix("_plain"), method == "bicubic"
    maps = F.interpolate(maps, size=tuple(grid_to), mode=mode, antialias=antialias, align_corners=False)
    return cat([prefix, maps.flatten(2)[0].T.to(positions.dtype)])  # (P + h' * w', C)


def check_position_resize(method: str) -> None:
    """Raise `ValueError` for an unknown way of resampling."""
    if method not in POSITION_RESIZE_MODES:
        raise ValueError(f"position_resize: expected one of {', '.join(POSITION_RESIZE_MODES)}, got {method!r}")
