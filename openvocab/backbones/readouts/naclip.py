"""NACLIP: key-key attention that favors the neighborhood."""

import torch
from torch import Tensor

from openvocab.backbones.readouts.base import AttentionReadout
from openvocab.layers.attention import attend
from openvocab.layers.clip_attention import Projections
from openvocab.registry import READOUTS
from openvocab.structures import Size


@READOUTS.register_module(name="naclip")
class NACLIP(AttentionReadout):
    """softmax(s k kT + G) v, without residual and feed-forward half; G_ij = exp(-|i - j|^2 / (2 std^2)).

    Args:
        std: of the Gaussian window, in patches.

    Reference: arXiv 2404.08181.
    """

    def __init__(self, std: float = 5.0) -> None:
        if std <= 0:
            raise ValueError(f"std: expected a positive number of patches, got {std}")
        self.std = std

    def mix(self, projections: Projections, grid_size: Size) -> Tensor:
        """Attend by the similarity of keys, favoring the neighborhood."""
        _, k, v = projections
        return attend(k, k, v, gaussian_window(grid_size, k.shape[2], self.std).to(k))


def gaussian_window(grid_size: Size, length: int, std: float) -> Tensor:
    """Return exp(-distance^2 / (2 std^2)) between the patches of a grid, (length, length); zero for prefix tokens."""
    height, width = grid_size
    rows, columns = (torch.arange(size, dtype=torch.float32) for size in grid_size)
    vertical = torch.exp(-((rows[:, None] - rows) ** 2) / (2 * std**2))  # (h, h)
    horizontal = torch.exp(-((columns[:, None] - columns) ** 2) / (2 * std**2))  # (w, w)
    window = torch.zeros(length, length)
    window[-height * width :, -height * width :] = torch.kron(vertical, horizontal)
    return window
