"""The contrastive loss of an image and several texts that all describe it."""

import torch
from torch import Tensor

from openvocab.losses.chunked_sum import at_least_float32, sum_over_chunks
from openvocab.losses.distributed_batch import (
    check_joint_batch,
    first_row,
    gather_rows,
    gather_with_gradient,
    joint_loss,
    rank_count,
)


def multi_label_info_nce(
    image_embed: Tensor,
    text_embed: Tensor,
    logit_scale: Tensor,
    *,
    text_ids: Tensor | None = None,
    chunk_size: int = 256,
    gather: bool = True,
) -> Tensor:
    """Return the mean of the image-to-text and the text-to-image cross entropy for K texts per image.

    An image's target is 1/K on each of its own texts, among the texts of all images; a text's target is its image,
    among all images. With several ranks these are the images of all ranks, and value and gradient are those of one
    process with the joint batch. Logits exist for `chunk_size` rows at a time and are recomputed in the backward pass.
    Everything is computed in float32 (or float64 if given), even under autocast.

    Args:
        image_embed: (B, D) unit norm; or (B, G, D), G segments per image. The logit of a text is then the log-sum-exp
            over the segments, so that some segment has to show what the text names (our addition; the maximum alone
            learned half as fast, because only one segment per image received a gradient).
        text_embed: (B, K, D) unit norm; row i belongs to row i of `image_embed`.
        logit_scale: () multiplier of the cosine, already exponentiated; receives a gradient.
        text_ids: (B, K) int64, equal for equal texts. If given, targets are spread evenly over all texts of an image's
            ids and over all images of a text's id, so that "a photo of a dog." of another image is not a negative.
            Equal texts must have equal rows (an encoder without dropout), and are scored once: a batch has few distinct
            noun prompts.
        chunk_size: rows scored at a time.
        gather: compare with the pairs of all ranks.

    Returns:
        () the loss. For K = 1 it is `info_nce`.

    Raises:
        ValueError: shapes that do not match, fewer than two images, ranks with different batches.

    Reference: the multi-label loss of GroupViT, arXiv 2202.11094; shared targets as in UniCL, arXiv 2204.03610.
    """
    _check_shapes(image_embed, text_embed, text_ids)
    ranks = rank_count(gather)
    check_joint_batch(len(image_embed), ranks, image_embed.device)
    _check_labels(text_embed, ranks)
    ids = _image_numbers(text_embed, ranks) if text_ids is None else text_ids  # (B, K)
    with torch.autocast(image_embed.device.type, enabled=False):
        images, texts, scale = at_least_float32(image_embed, text_embed, logit_scale)
        # a whole image is one segment, for which the log-sum-exp is the logit itself
        images = images.reshape(len(images), -1, images.shape[-1])  # (B, G, D)
        texts = texts.flatten(0, 1)  # (B * K, D)
        all_texts, all_images = (gather_with_gradient(part, ranks) for part in (texts, images))
        all_ids = gather_rows(ids, ranks)  # (N, K)
        merge = _distinct if text_ids is not None else _unmerged
        rows, row_ids, row_counts = merge(texts, ids.flatten())  # of this rank
        columns, column_ids, column_counts = merge(all_texts, all_ids.flatten())  # of all ranks

        def to_texts(chunk: slice) -> Tensor:
            is_positive = (ids[chunk, :, None] == column_ids).any(dim=1)  # (c, U)
            return _cross_entropy(_logits(images[chunk], columns, scale), is_positive, column_counts).sum()

        def to_images(chunk: slice) -> Tensor:
            is_positive = (row_ids[chunk, None, None] == all_ids).any(dim=2)  # (c, N)
            losses = _cross_entropy(_logits(all_images, rows[chunk], scale).T, is_positive, all_ids.new_ones(()))
            # a distinct text stands for all its copies
            return (row_counts[chunk] * losses).sum()

        of_images = sum_over_chunks(to_texts, len(images), chunk_size) / len(images)
        of_texts = sum_over_chunks(to_images, len(rows), chunk_size) / len(texts)
        # ranks: the means are over one rank, and joint_loss sums them over all
        return joint_loss((of_images + of_texts) / (2 * ranks), ranks)


def _image_numbers(text_embed: Tensor, ranks: int) -> Tensor:
    """Return the number of each text's image among the images of all ranks, (B, K), from text_embed (B, K, D)."""
    batch, texts_per_image, _ = text_embed.shape
    numbers = torch.arange(batch, device=text_embed.device) + first_row(batch, ranks)
    return numbers[:, None].expand(-1, texts_per_image)  # (B, K), a view


def _logits(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    """Return the scaled cosines of texts (N, D) with images (b, G, D), by log-sum-exp over the segments, (b, N)."""
    rows = (images.flatten(0, 1) @ texts.T) * scale  # (b * G, N)
    return rows.unflatten(0, images.shape[:2]).logsumexp(dim=1)  # (b, N)


def _distinct(texts: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the distinct ones of texts (n, D) with ids (n,): rows (U, D), ids (U,), and how often each occurs (U,)."""
    distinct_ids, index, counts = ids.unique(return_inverse=True, return_counts=True)
    # the mean of equal rows instead of one of them: each copy receives its part of the gradient
    sums = texts.new_zeros(len(distinct_ids), texts.shape[1]).index_add(0, index, texts)
    return sums / counts[:, None], distinct_ids, counts


def _unmerged(texts: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return all texts (n, D) in the form of `_distinct`."""
    return texts, ids, torch.ones_like(ids)


def _cross_entropy(logits: Tensor, is_positive: Tensor, counts: Tensor) -> Tensor:
    """Return the cross entropy of each row with a uniform target over its positive columns.

    Args:
        logits: (c, U).
        is_positive: (c, U) bool.
        counts: (U,) or (), how many equal columns each column represents.

    Returns:
        (c,).
    """
    weights = is_positive * counts  # (c, U)
    positive = (logits * weights).sum(dim=1) / weights.sum(dim=1)
    # count * exp(logit) = exp(logit + log(count)): equal columns are in the denominator as often as they occur
    return (logits + counts.to(logits.dtype).log()).logsumexp(dim=1) - positive


def _check_shapes(image_embed: Tensor, text_embed: Tensor, text_ids: Tensor | None) -> None:
    images, texts = tuple(image_embed.shape), tuple(text_embed.shape)
    fits = len(images) in (2, 3) and len(texts) == 3 and (texts[0], texts[2]) == (images[0], images[-1])
    if not fits or not texts[1]:
        raise ValueError(f"expected images (B, D) or (B, G, D) and texts (B, K, D), K >= 1; got {images} and {texts}")
    if text_ids is not None and tuple(text_ids.shape) != texts[:2]:
        raise ValueError(f"text_ids: expected one per text {texts[:2]}, got {tuple(text_ids.shape)}")


def _check_labels(text_embed: Tensor, ranks: int) -> None:
    counts = gather_rows(torch.tensor([text_embed.shape[1]], device=text_embed.device), ranks).tolist()
    if len(set(counts)) > 1:
        raise ValueError(f"all ranks need the same number of texts per image, got {counts}")
