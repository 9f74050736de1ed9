"""The cosine of bilinearly upsampled pixel embeddings with texts.

    einsum("bdhw,rd->brhw", F.normalize(upsample(embed), dim=1), rows)

is computed without upsampling the embeddings. Upsampling is linear, so the dot products are computed on the coarse grid
and then upsampled. Only the length of an interpolated embedding is not linear; its square is a quadratic form of the
four corner embeddings, and is computed from their dot products. The result is equal up to rounding, at a quarter of the
cost or less.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

SMALLEST_LENGTH = 1e-12
"""Lower bound of a length before the division, as in `F.normalize`."""


def upsample(x: Tensor) -> Tensor:
    """Double the resolution of (B, C, h, w) as DPT does: bilinear with aligned corners."""
    return F.interpolate(x, size=(2 * x.shape[-2], 2 * x.shape[-1]), mode="bilinear", align_corners=True)


def upsampled_cosine(embed: Tensor, rows: Tensor) -> Tensor:
    """Return the cosine of every pixel of `upsample(embed)` with every row.

    Args:
        embed: (B, D, h, w), any length.
        rows: (R, D) unit norm.

    Returns:
        (B, R, 2h, 2w) float32.
    """
    # before the upsampling, on a quarter of the pixels: both are linear
    dots = F.conv2d(embed, rows.to(embed.dtype)[:, :, None, None])  # (B, R, h, w)
    with torch.autocast(embed.device.type, enabled=False):
        # float32: squares of embeddings of any length may overflow float16
        length = upsampled_square_length(embed.float()).clamp(min=SMALLEST_LENGTH**2).sqrt()
        return upsample(dots.float()) / length


def upsampled_square_length(embed: Tensor) -> Tensor:
    """Return the squared length of every pixel of `upsample(embed)`, (B, 1, 2h, 2w), from embed (B, D, h, w)."""
    # one more row and column, for the cells that start at the last nodes
    pixels = F.pad(embed, (0, 1, 0, 1), mode="replicate").permute(0, 2, 3, 1)  # (B, h + 1, w + 1, D)
    top, bottom = pixels[:, :-1], pixels[:, 1:]
    dot = torch.linalg.vecdot
    # dot products of each pixel with itself and with its neighbors in the same cell
    length2 = dot(pixels, pixels)  # (B, h + 1, w + 1)
    across = dot(pixels[:, :, :-1], pixels[:, :, 1:])  # (B, h + 1, w): a pixel and its right neighbor
    down = dot(top, bottom)  # (B, h, w + 1): a pixel and the one below
    # of both diagonals
    diagonal = dot(top[:, :, :-1], bottom[:, :, 1:]) + dot(top[:, :, 1:], bottom[:, :, :-1])  # (B, h, w)
    # the weight of a product of two corners is the product of their bilinear weights
    y, low = _cells(embed.shape[-2], embed.device)
    x, left = _cells(embed.shape[-1], embed.device)
    y, low = y[:, None], low[:, None]
    high, right = 1 - low, 1 - left
    # |right * a + left * b|^2 of the upper edge, then of the lower edge
    upper = right**2 * length2[:, y, x] + left**2 * length2[:, y, x + 1] + 2 * right * left * across[:, y, x]
    lower = (
        right**2 * length2[:, y + 1, x] + left**2 * length2[:, y + 1, x + 1] + 2 * right * left * across[:, y + 1, x]
    )
    # product of the upper and the lower edge
    sides = right**2 * down[:, y, x] + left**2 * down[:, y, x + 1] + right * left * diagonal[:, y, x]
    return (high**2 * upper + low**2 * lower + 2 * high * low * sides)[:, None]  # (B, 1, 2h, 2w)


def _cells(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the cell (2 * size,) int64 of each upsampled position (aligned corners) and the weight of its far end."""
    position = torch.arange(2 * size, dtype=torch.float64) * ((size - 1) / (2 * size - 1))
    cell = position.floor()
    return cell.long().to(device), (position - cell).float().to(device)
