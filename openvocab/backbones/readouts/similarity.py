"""Similarity of patches, for several readouts. Patches are (B, N, C)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from openvocab.layers.token_maps import to_map
from openvocab.structures import Size

SIMILAR = 0.4
"""Cosine from which on two patches count as parts of the same object."""


def cosines(patches: Tensor) -> Tensor:
    """Return the cosines between all patches (B, N, C), (B, N, N) float32."""
    # In half precision the rounding of a cosine would decide what exceeds a threshold.
    with torch.autocast(patches.device.type, enabled=False):
        unit = F.normalize(patches.float(), dim=-1)
        return unit @ unit.transpose(1, 2)


def keep_similar(similarity: Tensor) -> Tensor:
    """Return `similarity` (B, N, N) with entries below `SIMILAR` set to 0."""
    return similarity.masked_fill(similarity < SIMILAR, 0)


def aggregate(patches: Tensor, weights: Tensor) -> Tensor:
    """Return the mean of all patches (B, N, C), weighted by each row of `weights` (B, N, N): (B, N, C)."""
    # Thresholded cosines do not sum to one; 1e-6 keeps a row of zeros at 0 instead of NaN.
    weights = weights / (weights.sum(-1, keepdim=True) + 1e-6)
    return weights.to(patches.dtype) @ patches


def contrast_softmax(similarity: Tensor, sharpness: float = 3.0, mean_factor: float = 1.0) -> Tensor:
    """Return softmax(sharpness * (C - mean_factor * mean C)) over the entries that are not negative, (B, N, N).

    Args:
        similarity: C, (B, N, N); the mean is per image. Its diagonal always takes part, so that no row is empty.
        sharpness: inverse temperature.
        mean_factor: multiplier of the mean.
    """
    scores = sharpness * (similarity - mean_factor * similarity.mean((1, 2), keepdim=True))
    # The softmax of a row that is -inf throughout would be NaN.
    itself = torch.eye(scores.shape[-1], dtype=torch.bool, device=scores.device)
    return scores.masked_fill((scores < 0) & ~itself, -torch.inf).softmax(-1)


def attention_weights(q: Tensor, k: Tensor) -> Tensor:
    """Return softmax(s q kT) for queries and keys (B, heads, N, d), (B, heads, N, N) float32."""
    # The fused kernel does not return its weights. float32: SFP compares them, RF-CLIP sums those of all blocks.
    return (q.float() @ k.float().transpose(2, 3) * q.shape[-1] ** -0.5).softmax(-1)


def neighbor_sum(patches: Tensor, grid_size: Size) -> Tensor:
    """Return the sum (B, N, C) over the 3 x 3 neighborhood of each patch (B, N, C), itself included, zero-padded."""
    # An average pool with divisor 1 is a sum without a convolution's weights.
    sums = F.avg_pool2d(to_map(patches, grid_size), 3, stride=1, padding=1, divisor_override=1)
    return sums.flatten(2).transpose(1, 2)  # (B, N, C)


def fill_outliers(patches: Tensor, outliers: Tensor, grid_size: Size) -> tuple[Tensor, Tensor]:
    """Replace outliers by the mean of the inliers in their 3 x 3 neighborhood.

    Args:
        patches: (B, N, C).
        outliers: (B, N) bool.
        grid_size: (h, w) with h * w = N.

    Returns:
        patches (B, N, C), where an outlier without inlier neighbors becomes 0, and which ones these are, (B, N, 1)
        bool.
    """
    # Two sums, of features and of ones, give a mean that ignores outliers and the padding at the border.
    inliers = (~outliers)[..., None].to(patches.dtype)  # (B, N, 1)
    count = neighbor_sum(inliers, grid_size)
    mean = neighbor_sum(patches * inliers, grid_size) / count.clamp(min=1)
    return torch.where(outliers[..., None], mean, patches), outliers[..., None] & (count == 0)
