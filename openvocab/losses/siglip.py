"""The sigmoid loss: every pair of an image and a text is a binary classification of its own."""

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


def siglip(
    image_embed: Tensor,
    text_embed: Tensor,
    logit_scale: Tensor,
    logit_bias: Tensor,
    *,
    chunk_size: int = 256,
    gather: bool = True,
) -> Tensor:
    """Return the binary cross entropy over all pairs of the joint batch, summed over texts and averaged over images.

    Logits exist for `chunk_size` images at a time, in float32 or above, and are recomputed in the backward pass. The
    paper passes texts from rank to rank in a ring; here they are gathered, with the same sum and gradient.

    Args:
        image_embed, text_embed: (B, D) unit norm; row i of one belongs to row i of the other.
        logit_scale: () multiplier of the cosine, already exponentiated.
        logit_bias: () added to every logit; the paper starts at -10, since nearly all pairs are negatives.
        chunk_size: images scored at a time.
        gather: see `info_nce`.

    Returns:
        () the loss, equal on every rank.

    Raises:
        ValueError: shapes that differ, a joint batch of one, ranks with different batch sizes.

    Reference: https://arxiv.org/abs/2303.15343.
    """
    if image_embed.ndim != 2 or image_embed.shape != text_embed.shape:
        raise ValueError(
            f"expected images and texts of one shape (B, D), got {tuple(image_embed.shape)} and "
            f"{tuple(text_embed.shape)}"
        )
    ranks = rank_count(gather)
    check_joint_batch(len(image_embed), ranks, image_embed.device)
    with torch.autocast(image_embed.device.type, enabled=False):
        images, texts, scale, bias = at_least_float32(image_embed, text_embed, logit_scale, logit_bias)
        first = first_row(len(images), ranks)
        texts = gather_with_gradient(texts, ranks)  # (N, D)

        def part(chunk: slice) -> Tensor:
            logits = (scale * images[chunk]) @ texts.T + bias  # (c, N)
            # -log(1 - sigmoid(x)) = softplus(x), which neither overflows nor takes the logarithm of 0
            as_negatives = F.softplus(logits).sum()  # ()
            # the loss of a positive is softplus(-x) = softplus(x) - x
            return as_negatives - logits.diagonal(first + chunk.start).sum()

        return joint_loss(sum_over_chunks(part, len(images), chunk_size) / len(texts), ranks)
