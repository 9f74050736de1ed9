"""Dynamic head blocks (DyConv): attention over the levels, the positions and the channels of a feature pyramid."""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from openvocab.ops.modulated_convolution import POINTS, modulated_convolution, reread
from openvocab.structures import size_of

GROUPS = 16
REDUCTION = 4
"""Of channels within the activation."""


class ModulatedConvolution(nn.Module):
    """A modulated deformable 3 x 3 convolution with bias, and a group norm after it.

    Args:
        dim: C of input and output.
        stride: of the convolution.
    """

    def __init__(self, dim: int, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(dim, dim, 3, stride, padding=1)  # holds the weights; the points are moved
        nn.init.zeros_(cast(Tensor, self.conv.bias))
        self.norm = nn.GroupNorm(GROUPS, dim)

    def forward(self, x: Tensor, offsets: Tensor, masks: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, h', w'); see `modulated_convolution`."""
        return self.norm(modulated_convolution(x, offsets, masks, self.conv.weight, self.conv.bias, self.stride))


class DynamicReLU(nn.Module):
    """The larger of two linear functions per channel, whose coefficients depend on the mean of the map (DY-ReLU-B).

    Args:
        dim: C.

    Reference: arXiv 2003.10027.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, dim // REDUCTION), nn.Linear(dim // REDUCTION, 4 * dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, h, w) to the same shape."""
        coefficients = F.hardsigmoid(self.fc2(self.fc1(x.mean((2, 3))).relu()))  # (B, 4 C), from 0 to 1
        slope1, shift1, slope2, shift2 = coefficients[:, :, None, None].chunk(4, dim=1)  # (B, C, 1, 1) each
        first = torch.addcmul(shift1 - 0.5, x, 2 * slope1)  # at first the identity, the other one zero
        return torch.maximum(first, torch.addcmul(shift2 - 0.5, x, 2 * slope2 - 1))


class DynamicBlock(nn.Module):
    """One block of a dynamic head; its weights are shared by all levels.

    Args:
        dim: C of the levels, divisible by 16.

    Reference: arXiv 2106.08322, as in GLIP (arXiv 2112.03857).
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        if dim % GROUPS:
            raise ValueError(f"dim: expected a multiple of {GROUPS}, the groups of the norms, got {dim}")
        self.from_coarser, self.from_same = ModulatedConvolution(dim), ModulatedConvolution(dim)
        self.from_finer = ModulatedConvolution(dim, stride=2)
        self.sampling = nn.Conv2d(dim, 3 * POINTS, 3, padding=1)
        self.level_weight = nn.Conv2d(dim, 1, 1)
        self.activation = DynamicReLU(dim)
        nn.init.normal_(self.level_weight.weight, std=0.01)
        nn.init.zeros_(cast(Tensor, self.level_weight.bias))

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Compute every level anew from itself and its neighbors.

        Args:
            levels: (B, C, h_i, w_i), fine to coarse; each half as large as the one before it, rounded up.

        Returns:
            Maps of the same shapes, all from the old levels.
        """
        return [self._level(levels, i) for i in range(len(levels))]

    def _level(self, levels: Sequence[Tensor], i: int) -> Tensor:
        offsets, masks = self._sampling(levels[i])
        branches = [self.from_same(levels[i], offsets, masks)]
        if i > 0:
            branches.append(self.from_finer(levels[i - 1], offsets, masks))
        if i + 1 < len(levels):
            branches.append(self._enlarged(levels[i + 1], offsets, masks))
        mean = sum(branch * self._weight(branch) for branch in branches) / len(branches)
        return self.activation(mean)

    def _sampling(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """Return the offsets (B, 18, h, w) and masks (B, 9, h, w) of a level."""
        offsets, masks = self.sampling(level).split((2 * POINTS, POINTS), dim=1)
        return offsets, masks.sigmoid()

    def _enlarged(self, coarser: Tensor, offsets: Tensor, masks: Tensor) -> Tensor:
        """Return the branch of the coarser level at the size of this one, whose offsets it uses."""
        size = size_of(coarser)
        mixed = self.from_coarser(coarser, reread(offsets, 2 * POINTS, size), reread(masks, POINTS, size))
        return F.interpolate(mixed, size=size_of(offsets), mode="bilinear", align_corners=True)

    def _weight(self, branch: Tensor) -> Tensor:
        """Return the weight (B, 1, 1, 1) of a branch (B, C, h, w): attention over levels."""
        return F.hardsigmoid(self.level_weight(branch.mean((2, 3), keepdim=True)).relu())
