"""MaskCLIP's two refinements of a map of cosines: prompt denoising and key smoothing."""

import torch
import torch.nn.functional as F
from torch import Tensor

SCALE = 100.0
"""Of the cosines before every softmax here: CLIP's learned temperature."""
RULED_OUT = -100.0


def denoise_prompts(cosines: Tensor, threshold: float) -> Tensor:
    """Rule out every class that no place gives a probability of at least `threshold`.

    Args:
        cosines: (B, K, h, w).

    Returns:
        (B, K, h, w); -100 everywhere for a class ruled out of an image.

    Reference: arXiv 2112.01071.
    """
    best = (SCALE * cosines.float()).softmax(1).amax((2, 3), keepdim=True)  # (B, K, 1, 1)
    return cosines.masked_fill(best < threshold, RULED_OUT)


def smooth_by_keys(cosines: Tensor, keys: Tensor, threshold: float) -> Tensor:
    """Give a place whose best probability is below `threshold` the sum of all places' probabilities, by their keys.

    The published code gives each channel of the keys unit norm over the places, not each place over its channels, and
    does not normalize the weights; this does the same.

    Args:
        cosines: (B, K, h, w).
        keys: (B, C, h, w) of the last attention.

    Returns:
        (B, K, h, w) float32 probabilities; sums of them where smoothed.

    Reference: arXiv 2112.01071.
    """
    probabilities = (SCALE * cosines.float()).softmax(1).flatten(2)  # (B, K, N)
    unit = F.normalize(keys.float().flatten(2), dim=2)  # (B, C, N)
    smoothed = torch.einsum("bkn,bcn,bcm->bkm", probabilities, unit, unit)
    unsure = probabilities.amax(1, keepdim=True) < threshold
    return torch.where(unsure, smoothed, probabilities).view(cosines.shape)
