"""Symmetric InfoNCE, plain and decoupled, without the (N, N) matrix of logits."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from openvocab.losses.distributed_batch import check_joint_batch, first_row, gather_rows, rank_count


def info_nce(
    image_embed: Tensor,
    text_embed: Tensor,
    logit_scale: Tensor,
    *,
    text_ids: Tensor | None = None,
    chunk_size: int = 256,
    gather: bool = True,
) -> Tensor:
    """Return the mean of the image-to-text and the text-to-image cross entropy over a batch of pairs.

    Logits exist for `chunk_size` images at a time and are recomputed in the backward pass: exact, in about the time of
    the full matrix. Everything is computed in float32 (or float64 if given), even under autocast.

    With several ranks (`gather`) the joint batch of N = ranks x B pairs is scored: each rank compares its own images
    with the texts of all ranks, so that nothing is computed twice and only texts are communicated. The value is the
    joint loss, equal on every rank. DistributedDataParallel averages parameter gradients, while the joint gradient is
    the sum of the ranks' contributions; each gradient is therefore multiplied by the number of ranks here, and the
    average is exactly the gradient of one process with the joint batch.

    Args:
        image_embed: (B, D) unit norm; row i belongs to row i of `text_embed`.
        text_embed: (B, D) unit norm.
        logit_scale: () multiplier of the cosine, already exponentiated; receives a gradient.
        text_ids: (B,) int64, equal for equal texts. If given, an image's target is spread evenly over all texts of its
            id, so that the same caption of another image is not a negative.
        chunk_size: images scored at a time; memory grows with it.
        gather: compare with the pairs of all ranks.

    Returns:
        () the loss.

    Raises:
        ValueError: shapes that do not match, fewer than two pairs, ranks with different batch sizes.

    Reference: https://arxiv.org/abs/2103.00020 (CLIP); shared targets as in https://arxiv.org/abs/2204.03610 (UniCL).
    """
    _check_pairs(image_embed, text_embed, text_ids, chunk_size)
    return _chunked(image_embed, text_embed, logit_scale, text_ids, False, chunk_size, gather)


def decoupled_info_nce(
    image_embed: Tensor, text_embed: Tensor, logit_scale: Tensor, *, chunk_size: int = 256, gather: bool = True
) -> Tensor:
    """Return InfoNCE whose denominators exclude the positive pair (DCL).

    The gradient of a well separated pair is then as strong as that of any other, which helps small batches. The value
    can be negative. Memory, precision and ranks as in `info_nce`.

    Args:
        image_embed, text_embed, logit_scale, chunk_size, gather: see `info_nce`.

    Returns:
        () the loss.

    Raises:
        ValueError: as `info_nce`.

    Reference: https://arxiv.org/abs/2110.06848, both directions as in CLIP, without its weighting function.
    """
    _check_pairs(image_embed, text_embed, None, chunk_size)
    return _chunked(image_embed, text_embed, logit_scale, None, True, chunk_size, gather)


def _chunked(
    images: Tensor,
    texts: Tensor,
    scale: Tensor,
    text_ids: Tensor | None,
    decoupled: bool,
    chunk_size: int,
    gather: bool,
) -> Tensor:
    ranks = rank_count(gather)
    check_joint_batch(len(images), ranks, images.device)
    # float32: between 64 and 128 the logits would be multiples of 0.5 in bfloat16
    dtype = torch.promote_types(images.dtype, torch.float32)
    with torch.autocast(images.device.type, enabled=False):
        return _ChunkedInfoNCE.apply(
            images.to(dtype), texts.to(dtype), scale.to(dtype), text_ids, decoupled, chunk_size, ranks
        )


class _ChunkedInfoNCE(torch.autograd.Function):
    """Softmax sums of rows and columns, a chunk of rows at a time; the backward pass recomputes each chunk.

    Sums of exponentials are stored next to the maxima that were subtracted from the exponents: a single log-sum-exp
    would round away how well a pair is separated once it is separated.
    """

    @staticmethod
    def forward(
        ctx: Any,
        images: Tensor,
        texts: Tensor,
        scale: Tensor,
        text_ids: Tensor | None,
        decoupled: bool,
        chunk_size: int,
        ranks: int,
    ) -> Tensor:
        """Return the joint loss (); keep the sums of rows and columns, not the logits."""
        first = first_row(len(images), ranks)
        columns = gather_rows(texts, ranks)  # (N, D)
        targets = _Targets(first, None if text_ids is None else gather_rows(text_ids, ranks), decoupled)
        # (2, B), (2, N), (B,)
        rows, column_sums, positive = _forward_pass(images * scale, columns, targets, chunk_size)
        # a column is compared with the images of all ranks, a row is complete on its own rank
        column_sums = _joined(column_sums, ranks)
        own_columns = slice(first, first + len(images))  # columns of this rank's texts
        total = (_log_sum(rows) - positive).sum() + (_log_sum(column_sums[:, own_columns]) - positive).sum()
        if ranks > 1:
            dist.all_reduce(total)
        ctx.save_for_backward(images, columns, scale, rows, column_sums)
        ctx.targets, ctx.chunk_size, ctx.ranks = targets, chunk_size, ranks
        # mean over N pairs and two directions
        return total / (2 * len(columns))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None, None]:
        """Return the gradients of images (B, D), texts (B, D) and scale (), multiplied by the number of ranks."""
        images, columns, scale, rows, column_sums = ctx.saved_tensors
        with torch.autocast(images.device.type, enabled=False):
            scaled = images * scale
            grad_scaled, grad_columns = _backward_pass(scaled, columns, rows, column_sums, ctx.targets, ctx.chunk_size)
        if ctx.ranks > 1:
            dist.all_reduce(grad_columns)  # not reduce-scatter, which older versions of gloo lack
        own_columns = slice(ctx.targets.first, ctx.targets.first + len(images))
        factor = grad_loss * (ctx.ranks / len(columns))
        # chain rule through scaled = images * scale
        grad_scale = (grad_scaled * images).sum() * factor
        return grad_scaled * (factor * scale), grad_columns[own_columns] * factor, grad_scale, None, None, None, None


class _Targets:
    """The positive columns of this rank's rows: the row's own text, or with ids all texts of the same id."""

    def __init__(self, first: int, column_ids: Tensor | None, decoupled: bool) -> None:
        self.first = first
        self.column_ids = column_ids
        self.decoupled = decoupled

    def mean_logit(self, logits: Tensor, start: int) -> Tensor:
        """Return the mean logit (c,) of the positive columns, for logits (c, N) of the rows from `start` on."""
        if self.column_ids is None:
            return logits.diagonal(self.first + start)  # (c,), a view: row i belongs to column first + start + i
        is_positive, counts = self._positives(self.column_ids, start, len(logits))
        return torch.where(is_positive, logits, 0).sum(1) / counts  # (c,)

    def exclude_(self, logits: Tensor, start: int) -> None:
        """Exclude the positive columns of logits (c, N) from the denominators, in place, if the loss is decoupled."""
        if self.decoupled:
            logits.diagonal(self.first + start).fill_(-torch.inf)

    def subtract_(self, probabilities: Tensor, start: int) -> None:
        """Subtract the target distribution of the rows from `start` on from `probabilities` (c, N), in place."""
        if self.column_ids is None:
            # the gradient of a cross entropy is probability minus target
            probabilities.diagonal(self.first + start).sub_(1)
            return
        is_positive, counts = self._positives(self.column_ids, start, len(probabilities))
        probabilities.sub_(is_positive / counts[:, None])

    def _positives(self, column_ids: Tensor, start: int, length: int) -> tuple[Tensor, Tensor]:
        """Return which columns are positive (c, N) bool, and their number (c,), for c = `length` rows from `start`."""
        rows = column_ids[self.first + start : self.first + start + length]
        is_positive = torch.eq(rows[:, None], column_ids)  # (c, N)
        return is_positive, is_positive.sum(1)


def _forward_pass(scaled: Tensor, columns: Tensor, targets: _Targets, chunk_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the (maximum, sum of exponentials) of rows (2, B) and of columns (2, N), and the positive logits (B,).

    The sums of the columns are over this rank's rows alone.

    Args:
        scaled: (B, D) images times the logit scale.
        columns: (N, D) texts of all ranks.
    """
    rows = scaled.new_empty(2, len(scaled))
    # sums over no row: the maximum is minus infinity and the sum 0, which any other sum replaces
    column_sums = torch.stack([scaled.new_full((len(columns),), -torch.inf), scaled.new_zeros(len(columns))])
    positive = scaled.new_empty(len(scaled))
    for start in range(0, len(scaled), chunk_size):
        chunk = slice(start, start + chunk_size)
        logits = scaled[chunk] @ columns.T  # (c, N)
        positive[chunk] = targets.mean_logit(logits, start)
        targets.exclude_(logits, start)
        rows[:, chunk] = _exp_sum(logits, 1)
        column_sums = _add_sums(torch.stack([column_sums, _exp_sum(logits, 0)]))  # (2, N)
    return rows, column_sums, positive


def _backward_pass(
    scaled: Tensor, columns: Tensor, rows: Tensor, column_sums: Tensor, targets: _Targets, chunk_size: int
) -> tuple[Tensor, Tensor]:
    """Return N times the gradient of the loss with respect to `scaled` (B, D) and `columns` (N, D)."""
    grad_scaled, grad_columns = torch.empty_like(scaled), torch.zeros_like(columns)
    # 0.5: the mean of two directions
    row_factor, column_factor = 0.5 / rows[1], 0.5 / column_sums[1]
    for start in range(0, len(scaled), chunk_size):
        chunk = slice(start, start + chunk_size)
        logits = scaled[chunk] @ columns.T  # (c, N)
        targets.exclude_(logits, start)
        over_texts = (logits - rows[0, chunk, None]).exp_()  # (c, N), before its division by the row sums
        # in place from here: a second (c, N) would double the memory of the loss
        grad = logits.sub_(column_sums[0]).exp_().mul_(column_factor)  # (c, N)
        grad.addcmul_(over_texts, row_factor[chunk, None])
        # once and not twice by half: both directions have the same positive pairs
        targets.subtract_(grad, start)
        grad_scaled[chunk] = grad @ columns
        grad_columns.addmm_(grad.T, scaled[chunk])
    return grad_scaled, grad_columns


def _exp_sum(logits: Tensor, dim: int) -> Tensor:
    """Return the maximum along `dim` and the sum of exponentials after subtracting it, (2, ...)."""
    # the maximum is minus infinity if all entries are excluded, and would make the differences NaN
    maximum = logits.amax(dim, keepdim=True).clamp_(min=torch.finfo(logits.dtype).min)
    return torch.stack([maximum.squeeze(dim), (logits - maximum).exp_().sum(dim)])


def _add_sums(parts: Tensor) -> Tensor:
    """Join sums of exponentials (P, 2, N) over different rows into one, (2, N)."""
    maximum = parts[:, 0].amax(0)
    # each sum is rescaled to the joint maximum, so that no exponential exceeds 1
    return torch.stack([maximum, (parts[:, 1] * (parts[:, 0] - maximum).exp()).sum(0)])


def _joined(column_sums: Tensor, ranks: int) -> Tensor:
    """Join the column sums (2, N) of all ranks."""
    return column_sums if ranks == 1 else _add_sums(gather_rows(column_sums[None], ranks))


def _log_sum(sums: Tensor) -> Tensor:
    """Return the log-sum-exp (N,) of (maximum, sum of exponentials), (2, N)."""
    return sums[0] + sums[1].log()


def _check_pairs(image_embed: Tensor, text_embed: Tensor, text_ids: Tensor | None, chunk_size: int) -> None:
    if image_embed.ndim != 2 or image_embed.shape != text_embed.shape:
        raise ValueError(
            "expected image and text embeddings of one shape (B, D), one pair per row; "
            f"got {tuple(image_embed.shape)} and {tuple(text_embed.shape)}"
        )
    if text_ids is not None and text_ids.shape != image_embed.shape[:1]:
        raise ValueError(f"text_ids: expected ({len(image_embed)},), one per pair, got {tuple(text_ids.shape)}")
    if chunk_size < 1:
        raise ValueError(f"chunk_size: expected at least 1, got {chunk_size}")
