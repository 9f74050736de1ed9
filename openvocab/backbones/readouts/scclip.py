"""SC-CLIP: self-calibrated CLIP."""

import torch
from torch import Tensor

from openvocab.backbones.readouts.base import ForwardPass
from openvocab.backbones.readouts.self_calibration import SelfCalibration, apply_weights
from openvocab.backbones.readouts.similarity import contrast_softmax, fill_outliers
from openvocab.layers.attention import attend
from openvocab.layers.clip_attention import Projections
from openvocab.registry import READOUTS
from openvocab.structures import Size

NEIGHBORS = 30
"""Neighbors in the local outlier factor; all other patches if there are fewer."""
INLIER_FRACTION = 0.95
"""Fraction of the patches that are not outliers."""


@READOUTS.register_module(name="scclip")
class SCCLIP(SelfCalibration):
    """Self-calibration with outliers of a high local outlier factor.

    The weights are (softmax(3 (C - mean C)) + softmax(s k kT)) / 2 in both passes. The mean of C is per image (the
    official code computes it over the batch, which holds one window).

    Reference: arXiv 2411.15869.
    """

    def outliers(self, tower: ForwardPass) -> Tensor:
        """Return which patches have a local outlier factor in the highest 5 %, (B, N) bool."""
        factors = local_outlier_factors(tower.entering[:, 1:])
        return factors > factors.quantile(INLIER_FRACTION, dim=1, keepdim=True)

    def filled(self, patches: Tensor, outliers: Tensor, grid_size: Size) -> Tensor:
        """Return (B, N, C), outliers replaced by their inlier neighbors' mean if there are any; see the base class."""
        filled, isolated = fill_outliers(patches, outliers, grid_size)
        return torch.where(isolated, patches, filled)

    def guide(self, similarity: Tensor) -> Tensor:
        """Return softmax(3 (C - mean C)) over the entries above the mean, (B, N, N)."""
        return contrast_softmax(similarity)

    def mix(self, projections: Projections, guide: Tensor) -> Tensor:
        """Average the values (B, heads, N, d) by C and by the keys, half each; see `SelfCalibration.mix`."""
        _, k, v = projections
        return (apply_weights(v, guide) + attend(k, k, v)) / 2

    mix_again = mix


def local_outlier_factors(patches: Tensor) -> Tensor:
    """Return the local outlier factors (B, N) float32 of patches (B, N, C).

    As in the official code, the factor is d_i * mean over the neighbors j of 1 / d_j, where d is the squared distance
    to the farthest of the neighbors.
    """
    neighbors = min(NEIGHBORS, patches.shape[1] - 1)
    if neighbors < 1:
        return patches.new_zeros(patches.shape[:2], dtype=torch.float32)
    # Distances in float32: in half precision, those of close neighbors would round to the same value or to 0.
    distances = torch.cdist(patches.float(), patches.float()).square()  # (B, N, N)
    distances.diagonal(dim1=1, dim2=2).fill_(-1)  # the patch itself comes first and is skipped
    nearest, index = distances.topk(neighbors + 1, largest=False)  # (B, N, neighbors + 1), ascending
    reach = nearest[..., -1].clamp(min=torch.finfo(torch.float32).tiny)  # (B, N), no 1 / 0 for equal patches
    # Gathering from an expanded view: (B, N, N) is never copied.
    of_neighbors = reach[:, None].expand_as(distances).gather(2, index[..., 1:])  # (B, N, neighbors)
    return reach * of_neighbors.reciprocal().mean(-1)
