"""What several readouts do with the similarity of patches to each other. Patches are (B, N, C)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from openvocab.layers.token_maps import to_map
from openvocab.structures import Size

ALIKE = 0.4
"""Cosine from which two patches count as parts of one thing."""


def cosines(patches: Tensor) -> Tensor:
    """Return the cosine of every two patches, (B, N, N) float32."""
    with torch.autocast(patches.device.type, enabled=False):
        unit = F.normalize(patches.float(), dim=-1)
        return unit @ unit.transpose(1, 2)


def alike(similarity: Tensor) -> Tensor:
    """Return `similarity` with 0 for patches that are less alike than `ALIKE`."""
    return similarity.masked_fill(similarity < ALIKE, 0)


def aggregate(patches: Tensor, weights: Tensor) -> Tensor:
    """Return the mean of all patches for each, weighted by its row of `weights` (B, N, N)."""
    weights = weights / (weights.sum(-1, keepdim=True) + 1e-6)
    return weights.to(patches.dtype) @ patches


def contrast_softmax(similarity: Tensor, sharpness: float = 3.0, share: float = 1.0) -> Tensor:
    """Return softmax(sharpness * (C - share * mean C)) over the patches that are not below it, (B, N, N).

    The mean is of each image. A patch always counts itself, so that no row is empty.
    """
    scores = sharpness * (similarity - share * similarity.mean((1, 2), keepdim=True))
    itself = torch.eye(scores.shape[-1], dtype=torch.bool, device=scores.device)
    return scores.masked_fill((scores < 0) & ~itself, -torch.inf).softmax(-1)


def attention_weights(q: Tensor, k: Tensor) -> Tensor:
    """Return softmax(s q kT) of queries and keys (B, heads, N, d), (B, heads, N, N) float32."""
    return (q.float() @ k.float().transpose(2, 3) * q.shape[-1] ** -0.5).softmax(-1)


def neighbor_sum(patches: Tensor, grid_size: Size) -> Tensor:
    """Return the sum over the 3 x 3 neighborhood of each patch, itself included, zeros outside the map."""
    sums = F.avg_pool2d(to_map(patches, grid_size), 3, stride=1, padding=1, divisor_override=1)
    return sums.flatten(2).transpose(1, 2)  # (B, N, C)


def fill(patches: Tensor, outliers: Tensor, grid_size: Size) -> tuple[Tensor, Tensor]:
    """Replace outliers by the mean of their 3 x 3 neighbors that are none.

    Args:
        outliers: (B, N) bool.

    Returns:
        patches (B, N, C); an outlier without such neighbors becomes 0.
        stranded: (B, N, 1) bool, whether it is one of these.
    """
    sound = (~outliers)[..., None].to(patches.dtype)  # (B, N, 1)
    count = neighbor_sum(sound, grid_size)
    mean = neighbor_sum(patches * sound, grid_size) / count.clamp(min=1)
    return torch.where(outliers[..., None], mean, patches), outliers[..., None] & (count == 0)
