"""NT-Xent: two views of an image, or of a part of it, are to be each other's nearest among all other rows."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from openvocab.argument_checks import check_choice
from openvocab.losses.chunked_sum import at_least_float32
from openvocab.losses.distributed_batch import (
    check_joint_batch,
    first_row,
    gather_with_gradient,
    joint_loss,
    rank_count,
)
from openvocab.losses.one_directional import cross_entropy_of_rows

Parity = Literal["xclip"]


def nt_xent(
    first: Tensor,
    second: Tensor,
    temperature: float = 0.1,
    *,
    parity: Parity | None = None,
    chunk_size: int = 256,
    gather: bool = True,
) -> Tensor:
    """Return the mean cross entropy of retrieving each row's other view among the 2N - 1 other rows.

    Logits exist for `chunk_size` rows at a time, in float32 or above, and are recomputed in the backward pass.

    Args:
        first, second: (B, D) projections of two views; row i of one belongs to row i of the other. Of images, or of
            patches that cover the same part of an image (`matching_patches`).
        temperature: divides the cosine.
        parity: "xclip" does not normalize the rows, for comparison with that code. After a batch norm their products
            are then so large that the softmax is nearly an argmax.
        chunk_size: rows scored at a time.
        gather: compare with the rows of all ranks, which must have equally many.

    Returns:
        () the loss, equal on every rank that shares it.

    Raises:
        ValueError: shapes that differ, a single pair, a temperature that is not positive, an unknown `parity`.

    Reference: https://arxiv.org/abs/2002.05709 (SimCLR).
    """
    _check(first, second, temperature, parity)
    ranks = rank_count(gather)
    check_joint_batch(len(first), ranks, first.device)
    with torch.autocast(first.device.type, enabled=False):
        rows = torch.cat(at_least_float32(first, second))  # (2B, D)
        if parity is None:
            # of unit norm, so that the products are cosines
            rows = F.normalize(rows, dim=1)
        columns = gather_with_gradient(rows, ranks)  # (2N, D)
        itself = torch.arange(len(rows), device=rows.device) + first_row(len(rows), ranks)
        other_view = itself.roll(len(first))  # the second view of a first one, and the first of a second one
        # a row is not its own negative: nothing is as similar to it as itself
        total = cross_entropy_of_rows(rows / temperature, columns, other_view, itself, chunk_size=chunk_size)
        return joint_loss(total / len(columns), ranks)


def _check(first: Tensor, second: Tensor, temperature: float, parity: str | None) -> None:
    if first.ndim != 2 or first.shape != second.shape:
        raise ValueError(f"expected two views of one shape (B, D), got {tuple(first.shape)} and {tuple(second.shape)}")
    if not temperature > 0:
        raise ValueError(f"temperature: expected above 0, got {temperature}")
    check_choice("parity", parity, ("xclip", None))
