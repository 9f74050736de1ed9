"""InfoNCE in one direction: each row is classified among all columns."""

import torch
import torch.nn.functional as F
from torch import Tensor

from openvocab.losses.chunked_sum import at_least_float32, sum_over_chunks
from openvocab.losses.distributed_batch import (
    check_joint_batch,
    first_row,
    gather_with_gradient,
    joint_loss,
    rank_count,
)


def one_directional_info_nce(
    rows: Tensor,
    columns: Tensor,
    logit_scale: Tensor,
    *,
    decoupled: bool = False,
    chunk_size: int = 256,
    gather: bool = True,
) -> Tensor:
    """Return the mean cross entropy of retrieving each row's column among those of all ranks.

    One half of `info_nce`, for losses whose two directions compare different embeddings (CLOOB-style projections).
    Logits exist for `chunk_size` rows at a time, in float32 or above, and are recomputed in the backward pass.

    Args:
        rows, columns: (B, D) unit norm; row i belongs to column i.
        logit_scale: () multiplier of the cosine, already exponentiated.
        decoupled: exclude the positive column from the denominator (DCL).
        chunk_size: rows scored at a time.
        gather: see `info_nce`.

    Returns:
        () the loss, equal on every rank.

    Raises:
        ValueError: shapes that differ, a joint batch of one, ranks with different batch sizes.

    Reference: the second pair of projections of x-clip, after https://arxiv.org/abs/2110.11316 (CLOOB), which compares
    another pair of embeddings in each direction; its Hopfield retrieval is not part of it.
    """
    if rows.ndim != 2 or rows.shape != columns.shape:
        raise ValueError(
            f"expected rows and columns of one shape (B, D), got {tuple(rows.shape)} and {tuple(columns.shape)}"
        )
    ranks = rank_count(gather)
    check_joint_batch(len(rows), ranks, rows.device)
    with torch.autocast(rows.device.type, enabled=False):
        rows, columns, logit_scale = at_least_float32(rows, columns, logit_scale)
        columns = gather_with_gradient(columns, ranks)  # (N, D)
        targets = torch.arange(len(rows), device=rows.device) + first_row(len(rows), ranks)
        total = cross_entropy_of_rows(rows * logit_scale, columns, targets, decoupled=decoupled, chunk_size=chunk_size)
        return joint_loss(total / len(columns), ranks)


def cross_entropy_of_rows(
    scaled: Tensor,
    columns: Tensor,
    targets: Tensor,
    excluded: Tensor | None = None,
    *,
    decoupled: bool = False,
    chunk_size: int = 256,
) -> Tensor:
    """Return the sum over rows of the cross entropy of `scaled @ columns.T`, a chunk of rows at a time.

    Args:
        scaled: (R, D) rows, already multiplied by the logit scale.
        columns: (N, D).
        targets: (R,) int64 index of each row's positive column.
        excluded: (R,) int64 index of a column per row that is not scored, such as the row itself.
        decoupled: exclude the positive column from the denominator.
        chunk_size: rows scored at a time.

    Returns:
        () the sum.
    """

    def part(chunk: slice) -> Tensor:
        logits = scaled[chunk] @ columns.T  # (c, N)
        if excluded is not None:
            # minus infinity has probability 0, and no gradient
            logits = logits.scatter(1, excluded[chunk, None], -torch.inf)
        if not decoupled:
            return F.cross_entropy(logits, targets[chunk], reduction="sum")
        positive = logits.gather(1, targets[chunk, None])  # (c, 1)
        others = logits.scatter(1, targets[chunk, None], -torch.inf)
        return (others.logsumexp(1, keepdim=True) - positive).sum()

    return sum_over_chunks(part, len(scaled), chunk_size)
