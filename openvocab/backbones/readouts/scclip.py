"""SC-CLIP: a CLIP that calibrates itself."""

import torch
from torch import Tensor

from openvocab.backbones.readouts.base import ForwardPass
from openvocab.backbones.readouts.self_calibration import SelfCalibration, guided
from openvocab.backbones.readouts.similarity import contrast_softmax, fill
from openvocab.layers.attention import attend
from openvocab.layers.clip_attention import Projections
from openvocab.registry import READOUTS
from openvocab.structures import Size

NEIGHBOURS = 30
"""By which the local outlier factor judges a patch; all others, where there are fewer."""
SOUND = 0.95
"""Share of the patches that are none."""


@READOUTS.register_module(name="scclip")
class SCCLIP(SelfCalibration):
    """Outliers by their local outlier factor; weights (softmax(3 (C - mean C)) + softmax(s k kT)) / 2 in both passes.

    Each image is calibrated by itself (the published code takes the mean of C over a batch, and runs windows one by
    one).

    Reference: arXiv 2411.15869.
    """

    def outliers(self, tower: ForwardPass) -> Tensor:
        """Return the patches whose local outlier factor is in the highest twentieth."""
        factors = local_outlier_factors(tower.entering[:, 1:])
        return factors > factors.quantile(SOUND, dim=1, keepdim=True)

    def filled(self, patches: Tensor, outliers: Tensor, grid_size: Size) -> Tensor:
        """Return the mean of sound neighbors for outliers that have one."""
        filled, stranded = fill(patches, outliers, grid_size)
        return torch.where(stranded, patches, filled)

    def guide(self, similarity: Tensor) -> Tensor:
        """Return softmax(3 (C - mean C)) over what is above the mean."""
        return contrast_softmax(similarity)

    def mix(self, projections: Projections, guide: Tensor) -> Tensor:
        """Mix by C and by the keys, half each."""
        _, k, v = projections
        return (guided(v, guide) + attend(k, k, v)) / 2

    mix_again = mix


def local_outlier_factors(patches: Tensor) -> Tensor:
    """Return how much farther off a patch is than its neighbors are from theirs, (B, N) float32.

    The published factor is d_i * mean over the neighbors j of 1 / d_j, d the squared distance to the last neighbor.
    """
    neighbors = min(NEIGHBOURS, patches.shape[1] - 1)
    if neighbors < 1:
        return patches.new_zeros(patches.shape[:2], dtype=torch.float32)
    distances = torch.cdist(patches.float(), patches.float()).square()  # (B, N, N)
    distances.diagonal(dim1=1, dim2=2).fill_(-1)  # itself comes first and is left out
    nearest, index = distances.topk(neighbors + 1, largest=False)
    reach = nearest[..., -1].clamp(min=torch.finfo(torch.float32).tiny)  # (B, N)
    of_neighbors = reach[:, None].expand_as(distances).gather(2, index[..., 1:])  # (B, N, neighbors)
    return reach * of_neighbors.reciprocal().mean(-1)
