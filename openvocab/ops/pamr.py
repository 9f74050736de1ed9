"""Pixel-adaptive mask refinement: class maps that follow the edges of their image, without training.

    for _ in range(steps):
        maps = sum(weight * shifted for weight, shifted in zip(weights, neighbors(maps)))

with weights computed from the image, for some of the classes at a time.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

SHARPNESS = 0.1
"""Scale of the affinities: differences are divided by this part of the local standard deviation."""
ELEMENTS_AT_ONCE = 1 << 24
"""Elements of the class maps that are refined together."""
NEIGHBORS = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0))


def pamr(maps: Tensor, image: Tensor, dilations: Sequence[int] = (8, 16), steps: int = 10) -> Tensor:
    """Replace every pixel, step by step, with the mean of its neighbors, weighted by the similarity of their colors.

    The neighbors of a pixel are the eight around it at each dilation, without the pixel itself. The weights are
    softmax(-mean over channels of |I_p - I_q| / (0.1 sigma_p)), where sigma_p is the standard deviation of the channel
    over p and its neighbors. Borders are replicated. Classes do not depend on each other.

    Args:
        maps: (K, h, w) logits or probabilities; resized bilinearly (corners aligned) if their size is not the image's.
        image: (3, H, W), in any units.
        dilations: distances of the neighbors, in pixels.
        steps: number of iterations.

    Returns:
        (K, H, W) float32.

    Raises:
        ValueError: no dilations, or a dilation or a number of steps below 1.

    Reference: Single-Stage Semantic Segmentation from Image Labels, arXiv 2005.08104.
    """
    if not dilations or min(*dilations, steps) < 1:
        raise ValueError(f"pamr: expected dilations and steps of at least 1, got {tuple(dilations)} and {steps}")
    maps = maps.float()
    if maps.shape[1:] != image.shape[1:]:
        maps = F.interpolate(maps[None], size=image.shape[1:], mode="bilinear", align_corners=True)[0]
    weights = _affinities(image.float(), dilations)  # (N, H, W)
    # classes do not depend on each other: those that are refined together bound the memory
    at_once = max(1, ELEMENTS_AT_ONCE // maps[0].numel())
    return torch.cat([_propagate(part, weights, dilations, steps) for part in maps.split(at_once)])


def _propagate(maps: Tensor, weights: Tensor, dilations: Sequence[int], steps: int) -> Tensor:
    """Return maps (K, H, W) after `steps` means with weights (N, H, W)."""
    for _ in range(steps):
        refined = torch.zeros_like(maps)
        for weight, neighbor in zip(weights, _neighbors(maps, dilations)):
            refined.addcmul_(weight, neighbor)  # (K, H, W) += (H, W) * (K, H, W)
        maps = refined
    return maps


def _affinities(image: Tensor, dilations: Sequence[int]) -> Tensor:
    """Return the weight of each neighbor of each pixel, (N, H, W), from image (3, H, W)."""
    # 1e-8: the standard deviation of a region of one color is 0
    sharpness = 1e-8 + SHARPNESS * _local_std(image, dilations)  # (3, H, W)
    scores = [-((image - other).abs() / sharpness).mean(0) for other in _neighbors(image, dilations)]
    # over the neighbors, so that a step is a mean: (N, H, W)
    return torch.stack(scores).softmax(0)


def _local_std(image: Tensor, dilations: Sequence[int]) -> Tensor:
    """Return the unbiased standard deviation (3, H, W) of each pixel, counted once per dilation, and its neighbors."""
    count = len(dilations) * (len(NEIGHBORS) + 1)
    mean = (len(dilations) * image + sum(_neighbors(image, dilations))) / count  # (3, H, W)
    squares = len(dilations) * (image - mean) ** 2
    squares = squares + sum((other - mean) ** 2 for other in _neighbors(image, dilations))
    return (squares / (count - 1)).sqrt()


def _neighbors(maps: Tensor, dilations: Sequence[int]) -> Iterator[Tensor]:
    """Yield the maps (C, H, W) shifted so that each pixel has the value of one of its neighbors."""
    height, width = maps.shape[-2:]
    for dilation in dilations:
        padded = F.pad(maps[None], (dilation,) * 4, mode="replicate")[0]
        for dy, dx in NEIGHBORS:
            # the pixel itself is at (dilation, dilation) of the padded map
            y, x = dilation * (1 + dy), dilation * (1 + dx)
            yield padded[:, y : y + height, x : x + width]
