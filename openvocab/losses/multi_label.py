"""The contrastive loss of an image and several texts that all describe it."""

import torch
from torch import Tensor

from openvocab.losses.chunks import at_least_float32, sum_over_chunks
from openvocab.losses.ranks import (
    check_joint_batch,
    first_row,
    gather_rows,
    gather_with_gradient,
    joint_loss,
    rank_count,
)


def multi_label_info_nce(
    image_embed: Tensor, text_embed: Tensor, logit_scale: Tensor, *, chunk_size: int = 256, gather: bool = True
) -> Tensor:
    """Return the mean of the image-to-text and the text-to-image cross entropy where every image has K texts.

    An image's target is 1/K on each of its own texts, among the texts of all images; a text's target is its image,
    among all images. With several ranks that means the images of all ranks; value and gradient are those of one process
    with the joint batch. Logits exist for `chunk_size` rows at a time and are computed again in the backward pass.
    Everything is computed in float32 (float64 stays), under autocast too.

    Args:
        image_embed: (B, D) unit norm; or (B, G, D), G segments of each image: a text is then compared with the segment
            nearest to it (our addition, which asks that some segment shows what the text names).
        text_embed: (B, K, D) unit norm; row i belongs to row i of `image_embed`.
        logit_scale: () multiplier of the cosine, already exponentiated; receives a gradient.
        chunk_size: rows scored at a time.
        gather: score against the pairs of all ranks, where there are several.

    Returns:
        () the loss. For K = 1 it is `info_nce`.

    Raises:
        ValueError: shapes that do not match, fewer than two images, ranks with different batches.

    Reference: the multi-label loss of GroupViT, arXiv 2202.11094.
    """
    _check_shapes(image_embed, text_embed)
    ranks = rank_count(gather)
    check_joint_batch(len(image_embed), ranks, image_embed.device)
    _check_labels(text_embed, ranks)
    with torch.autocast(image_embed.device.type, enabled=False):
        images, texts, scale = at_least_float32(image_embed, text_embed, logit_scale)
        images = images.reshape(len(images), -1, images.shape[-1])  # (B, G, D)
        batch, labels, _ = texts.shape
        texts = texts.flatten(0, 1)  # (B * K, D)
        own = torch.arange(batch, device=images.device) + first_row(batch, ranks)  # (B,) among the joint images
        own_texts = own[:, None] * labels + torch.arange(labels, device=images.device)  # (B, K) among the joint texts
        own_images = own.repeat_interleave(labels)[:, None]  # (B * K, 1)
        all_texts, all_images = (gather_with_gradient(part, ranks) for part in (texts, images))

        def to_texts(chunk: slice) -> Tensor:
            return _cross_entropy(_similarity(images[chunk], all_texts) * scale, own_texts[chunk])

        def to_images(chunk: slice) -> Tensor:
            return _cross_entropy(_similarity(all_images, texts[chunk]).T * scale, own_images[chunk])

        of_images = sum_over_chunks(to_texts, batch, chunk_size) / batch
        of_texts = sum_over_chunks(to_images, len(texts), chunk_size) / len(texts)
        return joint_loss((of_images + of_texts) / (2 * ranks), ranks)


def _similarity(images: Tensor, texts: Tensor) -> Tensor:
    """Return the cosine of texts (N, D) with the nearest segment of images (b, G, D), (b, N)."""
    rows = images.flatten(0, 1) @ texts.T  # (b * G, N)
    return rows.unflatten(0, images.shape[:2]).amax(dim=1)


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the summed cross entropy of rows (c, N), each with an even target over its columns `targets` (c, K)."""
    return (logits.logsumexp(dim=1) - logits.gather(1, targets).mean(dim=1)).sum()


def _check_shapes(image_embed: Tensor, text_embed: Tensor) -> None:
    images, texts = tuple(image_embed.shape), tuple(text_embed.shape)
    fits = len(images) in (2, 3) and len(texts) == 3 and (texts[0], texts[2]) == (images[0], images[-1])
    if not fits or not texts[1]:
        raise ValueError(f"expected images (B, D) or (B, G, D) and texts (B, K, D), K >= 1; got {images} and {texts}")


def _check_labels(text_embed: Tensor, ranks: int) -> None:
    counts = gather_rows(torch.tensor([text_embed.shape[1]], device=text_embed.device), ranks).tolist()
    if len(set(counts)) > 1:
        raise ValueError(f"all ranks need the same number of texts an image, got {counts}")
