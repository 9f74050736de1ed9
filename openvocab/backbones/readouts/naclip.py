"""NACLIP: key-key attention with a bias towards neighboring patches."""

import torch
from torch import Tensor

from openvocab.backbones.readouts.base import AttentionReadout
from openvocab.layers.attention import attend
from openvocab.layers.clip_attention import Projections
from openvocab.registry import READOUTS
from openvocab.structures import Size


@READOUTS.register_module(name="naclip")
class NACLIP(AttentionReadout):
    """softmax(s k kT + G) v, without residual connection and feed-forward network; G_ij = exp(-|i - j|^2 / (2 std^2)).

    Args:
        std: standard deviation of the Gaussian window, in patches.

    Reference: arXiv 2404.08181.
    """

    def __init__(self, std: float = 5.0) -> None:
        if std <= 0:
            raise ValueError(f"std: expected a positive number of patches, got {std}")
        self.std = std

    def mix(self, projections: Projections, grid_size: Size) -> Tensor:
        """Average the values (B, heads, N, d) by the similarity of keys plus the window; see `AttentionReadout.mix`."""
        _, k, v = projections
        # Added to the scaled scores: before normalizing, a patch's weight for itself grows by a factor of e.
        return attend(k, k, v, gaussian_window(grid_size, k.shape[2], self.std).to(k))


def gaussian_window(grid_size: Size, length: int, std: float) -> Tensor:
    """Return exp(-distance^2 / (2 std^2)) between all tokens, (length, length) float32; zero for prefix tokens.

    Args:
        grid_size: (h, w) of the patches, which are the last h * w tokens.
        length: number of tokens.
        std: standard deviation in patches.
    """
    height, width = grid_size
    rows, columns = (torch.arange(size, dtype=torch.float32) for size in grid_size)
    vertical = torch.exp(-((rows[:, None] - rows) ** 2) / (2 * std**2))  # (h, h)
    horizontal = torch.exp(-((columns[:, None] - columns) ** 2) / (2 * std**2))  # (w, w)
    window = torch.zeros(length, length)
    # exp of a sum of squares is a product, so the 2D window is the Kronecker product of two 1D ones.
    # Rows and columns of the prefix tokens stay 0: the class token has no position to be near to.
    window[-height * width :, -height * width :] = torch.kron(vertical, horizontal)
    return window
