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
    """Return the mean of the image-to-text and the text-to-image cross entropy where every image has K texts.

    An image's target is 1/K on each of its own texts, among the texts of all images; a text's target is its image,
    among all images. With several ranks that means the images of all ranks; value and gradient are those of one process
    with the joint batch. Logits exist for `chunk_size` rows at a time and are computed again in the backward pass.
    Everything is computed in float32 (float64 stays), under autocast too.

    Args:
        image_embed: (B, D) unit norm; or (B, G, D), G segments of each image. The logit of a text is then the
            log-sum-exp over them, which asks that some segment shows what the text names (our addition; the maximum
            alone learned half as fast, since one segment of each image heard of its mistakes).
        text_embed: (B, K, D) unit norm; row i belongs to row i of `image_embed`.
        logit_scale: () multiplier of the cosine, already exponentiated; receives a gradient.
        text_ids: (B, K) int64, equal for equal texts. Where given, targets are spread evenly over all texts of an
            image's ids and over all images of a text's id, instead of calling "a photo of a dog." wrong for one image
            because it was written for another. Equal texts have equal rows (an encoder without dropout) and are scored
            once: a batch has few distinct noun prompts.
        chunk_size: rows scored at a time.
        gather: score against the pairs of all ranks, where there are several.

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
    ids = _own_ids(text_embed, ranks) if text_ids is None else text_ids  # (B, K)
    with torch.autocast(image_embed.device.type, enabled=False):
        images, texts, scale = at_least_float32(image_embed, text_embed, logit_scale)
        images = images.reshape(len(images), -1, images.shape[-1])  # (B, G, D)
        texts = texts.flatten(0, 1)  # (B * K, D)
        all_texts, all_images = (gather_with_gradient(part, ranks) for part in (texts, images))
        all_ids = gather_rows(ids, ranks)  # (N, K)
        distinct = _distinct if text_ids is not None else _each
        rows, row_ids, row_counts = distinct(texts, ids.flatten())  # of this rank
        columns, column_ids, column_counts = distinct(all_texts, all_ids.flatten())  # of all ranks

        def to_texts(chunk: slice) -> Tensor:
            is_right = (ids[chunk, :, None] == column_ids).any(dim=1)  # (c, U)
            return _cross_entropy(_logits(images[chunk], columns, scale), is_right, column_counts).sum()

        def to_images(chunk: slice) -> Tensor:
            is_right = (row_ids[chunk, None, None] == all_ids).any(dim=2)  # (c, N)
            losses = _cross_entropy(_logits(all_images, rows[chunk], scale).T, is_right, all_ids.new_ones(()))
            return (row_counts[chunk] * losses).sum()

        of_images = sum_over_chunks(to_texts, len(images), chunk_size) / len(images)
        of_texts = sum_over_chunks(to_images, len(rows), chunk_size) / len(texts)
        return joint_loss((of_images + of_texts) / (2 * ranks), ranks)


def _own_ids(text_embed: Tensor, ranks: int) -> Tensor:
    """Return (B, K) numbers of which each image has its own, among the images of all ranks."""
    batch, labels, _ = text_embed.shape
    numbers = torch.arange(batch, device=text_embed.device) + first_row(batch, ranks)
    return numbers[:, None].expand(-1, labels)


def _logits(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    """Return the scaled cosines of texts (N, D) with images (b, G, D), their segments joined, (b, N)."""
    rows = (images.flatten(0, 1) @ texts.T) * scale  # (b * G, N)
    return rows.unflatten(0, images.shape[:2]).logsumexp(dim=1)


def _distinct(texts: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the distinct ones of texts (n, D) with ids (n,): rows (U, D), ids (U,), and how often each occurs (U,)."""
    distinct_ids, place, counts = ids.unique(return_inverse=True, return_counts=True)
    sums = texts.new_zeros(len(distinct_ids), texts.shape[1]).index_add(0, place, texts)
    return sums / counts[:, None], distinct_ids, counts


def _each(texts: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return all texts (n, D), in the form of `_distinct`."""
    return texts, ids, torch.ones_like(ids)


def _cross_entropy(logits: Tensor, is_right: Tensor, counts: Tensor) -> Tensor:
    """Return the cross entropy of rows (c, U), each with an even target over its right columns (c, U) bool; (c,).

    A column stands for `counts` equal ones, (U,) or ().
    """
    weights = is_right * counts  # (c, U)
    right = (logits * weights).sum(dim=1) / weights.sum(dim=1)
    return (logits + counts.to(logits.dtype).log()).logsumexp(dim=1) - right


def _check_shapes(image_embed: Tensor, text_embed: Tensor, text_ids: Tensor | None) -> None:
    images, texts = tuple(image_embed.shape), tuple(text_embed.shape)
    fits = len(images) in (2, 3) and len(texts) == 3 and (texts[0], texts[2]) == (images[0], images[-1])
    if not fits or not texts[1]:
        raise ValueError(f"expected images (B, D) or (B, G, D) and texts (B, K, D), K >= 1; got {images} and {texts}")
    if text_ids is not None and tuple(text_ids.shape) != texts[:2]:
        raise ValueError(f"text_ids: expected one for each text {texts[:2]}, got {tuple(text_ids.shape)}")


def _check_labels(text_embed: Tensor, ranks: int) -> None:
    counts = gather_rows(torch.tensor([text_embed.shape[1]], device=text_embed.device), ranks).tolist()
    if len(set(counts)) > 1:
        raise ValueError(f"all ranks need the same number of texts an image, got {counts}")
