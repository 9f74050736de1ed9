"""Similarity regularization: images should be as similar to each other as their texts."""

import torch
from torch import Tensor

from openvocab.losses.chunked_sum import at_least_float32, sum_over_chunks
from openvocab.losses.distributed_batch import (
    check_joint_batch,
    first_row,
    gather_with_gradient,
    joint_loss,
    rank_count,
)


def similarity_regularization(
    image_embed: Tensor, text_embed: Tensor, *, chunk_size: int = 256, gather: bool = True
) -> Tensor:
    """Return the mean square difference of image-image and text-text cosines over all pairs of different samples.

    Cosines exist for `chunk_size` rows at a time, in float32 or above, and are recomputed in the backward pass.

    Args:
        image_embed, text_embed: (B, D) unit norm; the widths may differ. Row i of one belongs to row i of the other.
        chunk_size: rows at a time.
        gather: see `info_nce`.

    Returns:
        () the loss, equal on every rank.

    Raises:
        ValueError: different numbers of rows, a joint batch of one, ranks with different batch sizes.

    Reference: https://arxiv.org/abs/2309.08773, as x-clip has it.
    """
    if image_embed.ndim != 2 or text_embed.ndim != 2 or len(image_embed) != len(text_embed):
        raise ValueError(
            f"expected (B, D) images and texts, one pair per row, got {tuple(image_embed.shape)} and "
            f"{tuple(text_embed.shape)}"
        )
    ranks = rank_count(gather)
    check_joint_batch(len(image_embed), ranks, image_embed.device)
    with torch.autocast(image_embed.device.type, enabled=False):
        images, texts = at_least_float32(image_embed, text_embed)
        all_images, all_texts = gather_with_gradient(images, ranks), gather_with_gradient(texts, ranks)
        first = first_row(len(images), ranks)

        def part(chunk: slice) -> Tensor:
            difference = images[chunk] @ all_images.T - texts[chunk] @ all_texts.T  # (c, N)
            squares = difference.square()
            # the cosine of a sample with itself is 1 for images and texts: not a pair
            return squares.sum() - squares.diagonal(first + chunk.start).sum()

        total = sum_over_chunks(part, len(images), chunk_size)
        return joint_loss(total / (len(all_images) * (len(all_images) - 1)), ranks)
