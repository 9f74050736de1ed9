"""Symmetric InfoNCE without the (N, N) matrix of logits."""

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable


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

    Logits exist for `chunk_size` images at a time and are computed again in the backward pass: exact, at about the
    time of the full matrix. Everything is computed in float32 (float64 stays), under autocast too.

    With several ranks (`gather`) the joint batch of N = ranks x B pairs is scored: a rank sees its own images against
    the texts of all ranks, so nothing is computed twice and only texts travel. The value is the joint loss, equal on
    every rank. DistributedDataParallel AVERAGES parameter gradients, while the joint gradient is the SUM of what the
    ranks contribute; each gradient is therefore multiplied by the number of ranks here, and averaging then gives
    exactly the gradient of one process with the joint batch.

    Args:
        image_embed: (B, D) unit norm; row i belongs to row i of `text_embed`.
        text_embed: (B, D) unit norm.
        logit_scale: () multiplier of the cosine, already exponentiated; receives a gradient.
        text_ids: (B,) int64, equal for equal texts. Where given, an image's target is spread evenly over all texts of
            its id, instead of calling its own caption wrong when another image has the same one.
        chunk_size: images scored at a time; memory grows with it.
        gather: score against the pairs of all ranks, where there are several.

    Returns:
        () the loss.

    Raises:
        ValueError: shapes that do not match, fewer than two pairs, ranks with different batch sizes.

    Reference: https://arxiv.org/abs/2103.00020 (CLIP); shared targets as in https://arxiv.org/abs/2204.03610 (UniCL).
    """
    _check_pairs(image_embed, text_embed, text_ids, chunk_size)
    ranks = dist.get_world_size() if gather and dist.is_available() and dist.is_initialized() else 1
    _check_joint_batch(image_embed, ranks)
    dtype = torch.promote_types(image_embed.dtype, torch.float32)
    with torch.autocast(image_embed.device.type, enabled=False):
        return _ChunkedInfoNCE.apply(
            image_embed.to(dtype), text_embed.to(dtype), logit_scale.to(dtype), text_ids, chunk_size, ranks
        )


class _ChunkedInfoNCE(torch.autograd.Function):
    """Log-sum-exp of rows and columns, a chunk of rows at a time; the backward pass recomputes each chunk."""

    @staticmethod
    def forward(ctx, images, texts, scale, text_ids, chunk_size, ranks):  # noqa: ANN001, ANN205
        first = dist.get_rank() * len(images) if ranks > 1 else 0
        columns = _gather(texts, ranks)  # (N, D)
        targets = _Targets(first, text_ids, None if text_ids is None else _gather(text_ids, ranks))
        rows_lse, columns_lse = _log_sum_exp(images, columns, scale, chunk_size)
        if ranks > 1:
            columns_lse = _gather(columns_lse[None], ranks).logsumexp(0)  # (N,) over the images of all ranks
        positive = scale * (images * targets.mean_text(columns, len(images))).sum()
        own = rows_lse.sum() / 2 - positive
        if ranks > 1:
            dist.all_reduce(own)
        ctx.save_for_backward(images, columns, scale, rows_lse, columns_lse)
        ctx.targets, ctx.chunk_size, ctx.ranks = targets, chunk_size, ranks
        return own / len(columns) + columns_lse.mean() / 2

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_loss):  # noqa: ANN001, ANN205
        images, columns, scale, rows_lse, columns_lse = ctx.saved_tensors
        grad_images = torch.empty_like(images)
        grad_columns = torch.zeros_like(columns)
        grad_scale = torch.zeros_like(scale)
        with torch.autocast(images.device.type, enabled=False):
            for start in range(0, len(images), ctx.chunk_size):
                chunk = slice(start, start + ctx.chunk_size)
                cosine = images[chunk] @ columns.T  # (c, N)
                logits = cosine * scale
                grad = (logits - rows_lse[chunk, None]).exp_()
                grad += logits.sub_(columns_lse).exp_()
                ctx.targets.subtract_(grad.div_(2), chunk)  # N times the gradient of the loss by the logits
                grad_images[chunk] = grad @ columns
                grad_columns.addmm_(grad.T, images[chunk])
                grad_scale += torch.dot(grad.flatten(), cosine.flatten())
        if ctx.ranks > 1:
            dist.all_reduce(grad_columns)  # older gloo has no reduce-scatter
        own = slice(ctx.targets.first, ctx.targets.first + len(images))
        factor = grad_loss * (ctx.ranks / len(columns))
        return grad_images * (factor * scale), grad_columns[own] * (factor * scale), grad_scale * factor, None, None, None


class _Targets:
    """Which columns are right for the rows of this rank: the own text, or evenly every text of the same id."""

    def __init__(self, first: int, row_ids: Tensor | None, column_ids: Tensor | None) -> None:
        self.first = first
        self.row_ids, self.column_ids = row_ids, column_ids
        if column_ids is not None:
            _, self.column_group, counts = column_ids.unique(return_inverse=True, return_counts=True)
            self.counts = counts

    def mean_text(self, columns: Tensor, rows: int) -> Tensor:
        """Return the mean right text of each row, (B, D)."""
        own = slice(self.first, self.first + rows)
        if self.column_ids is None:
            return columns[own]
        sums = columns.new_zeros(len(self.counts), columns.shape[1]).index_add_(0, self.column_group, columns)
        return (sums / self.counts[:, None])[self.column_group[own]]

    def subtract_(self, probabilities: Tensor, chunk: slice) -> None:
        """Subtract the target distribution of the rows in `chunk` from `probabilities` (c, N), in place."""
        if self.column_ids is None:
            probabilities.diagonal(self.first + chunk.start).sub_(1)
            return
        group = self.column_group[self.first + chunk.start : self.first + chunk.start + len(probabilities)]
        same = group[:, None] == self.column_group  # (c, N)
        probabilities.sub_(same / self.counts[group][:, None])


def _log_sum_exp(images: Tensor, columns: Tensor, scale: Tensor, chunk_size: int) -> tuple[Tensor, Tensor]:
    """Return the log-sum-exp of the logits over texts (B,) and over this rank's images (N,)."""
    rows = images.new_empty(len(images))
    over_images = images.new_full((len(columns),), -torch.inf)
    for start in range(0, len(images), chunk_size):
        chunk = slice(start, start + chunk_size)
        logits = (images[chunk] @ columns.T).mul_(scale)  # (c, N)
        rows[chunk] = logits.logsumexp(1)
        over_images = torch.logaddexp(over_images, logits.logsumexp(0))
    return rows, over_images


def _gather(tensor: Tensor, ranks: int) -> Tensor:
    """Concatenate the equally long `tensor` of every rank along the first axis."""
    if ranks == 1:
        return tensor
    parts = [torch.empty_like(tensor) for _ in range(ranks)]
    dist.all_gather(parts, tensor.contiguous())
    return torch.cat(parts)


def _check_pairs(image_embed: Tensor, text_embed: Tensor, text_ids: Tensor | None, chunk_size: int) -> None:
    if image_embed.ndim != 2 or image_embed.shape != text_embed.shape:
        raise ValueError(
            "expected image and text embeddings of one shape (B, D), one pair a row; "
            f"got {tuple(image_embed.shape)} and {tuple(text_embed.shape)}"
        )
    if text_ids is not None and text_ids.shape != image_embed.shape[:1]:
        raise ValueError(f"text_ids: expected ({len(image_embed)},), one a pair, got {tuple(text_ids.shape)}")
    if chunk_size < 1:
        raise ValueError(f"chunk_size: expected at least 1, got {chunk_size}")


def _check_joint_batch(image_embed: Tensor, ranks: int) -> None:
    if ranks > 1:
        own = torch.tensor([len(image_embed)], device=image_embed.device)
        sizes = _gather(own, ranks).tolist()
        if len(set(sizes)) > 1:
            raise ValueError(f"all ranks need the same batch size to share their pairs, got {sizes}")
    if len(image_embed) * ranks < 2:
        raise ValueError(
            "a contrastive loss needs at least two pairs, got a batch of one: there is nothing to tell it apart from; "
            "raise batch_size (and drop_last the remainder)"
        )
