"""MaskCLIP's two refinements of a map of cosines: prompt denoising and key smoothing."""

import torch
import torch.nn.functional as F
from torch import Tensor

SCALE = 100.0
"""Multiplier of the cosines before every softmax here: CLIP's learned one."""
EXCLUDED = -100.0
"""Cosine of classes that are excluded from an image."""


def denoise_prompts(cosines: Tensor, threshold: float) -> Tensor:
    """Exclude every class whose probability is below `threshold` at all patches of an image.

    Args:
        cosines: (B, K, h, w).
        threshold: a probability in 0..1.

    Returns:
        (B, K, h, w); -100 for classes that are excluded from an image.

    Reference: arXiv 2112.01071.
    """
    # a class stays if it is probable at a single patch; float32, as rounding is multiplied by the scale
    best = (SCALE * cosines.float()).softmax(1).amax((2, 3), keepdim=True)  # (B, K, 1, 1)
    return cosines.masked_fill(best < threshold, EXCLUDED)


def smooth_by_keys(cosines: Tensor, keys: Tensor, threshold: float) -> Tensor:
    """Replace the probabilities of uncertain patches with the sum of those of all patches, weighted by their keys.

    As in the published code, each channel of the keys is normalized over the patches (not each patch over its
    channels), and the weights are not normalized.

    Args:
        cosines: (B, K, h, w).
        keys: (B, C, h, w) of the last attention.
        threshold: patches whose best probability is below it are uncertain.

    Returns:
        (B, K, h, w) float32, probabilities, and weighted sums of them at uncertain patches.

    Reference: arXiv 2112.01071.
    """
    probabilities = (SCALE * cosines.float()).softmax(1).flatten(2)  # (B, K, N)
    unit = F.normalize(keys.float().flatten(2), dim=2)  # (B, C, N)
    smoothed = torch.einsum("bkn,bcn,bcm->bkm", probabilities, unit, unit)  # (B, K, N)
    is_uncertain = probabilities.amax(1, keepdim=True) < threshold  # (B, 1, N)
    return torch.where(is_uncertain, smoothed, probabilities).view(cosines.shape)  # (B, K, h, w)
