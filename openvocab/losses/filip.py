"""FILIP's late interaction: every patch is matched with its best word, every word with its best patch."""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from openvocab.layers.recompute import recompute
from openvocab.losses.chunked_sum import at_least_float32, chunks
from openvocab.losses.distributed_batch import (
    check_joint_batch,
    first_row,
    gather_rows,
    gather_with_gradient,
    joint_loss,
    rank_count,
)

TEXTS_PER_IMAGE = 4
"""Texts per image in one product of tokens."""


def filip(
    patch_embed: Tensor,
    word_embed: Tensor,
    is_word: Tensor,
    logit_scale: Tensor,
    *,
    chunk_size: int = 16,
    gather: bool = True,
) -> Tensor:
    """Return the symmetric InfoNCE of token-wise similarities over a batch of pairs.

    Image to text: each patch takes its best word, averaged over the patches. Text to image: each word takes its best
    patch, averaged over the words. Products of tokens exist for `chunk_size` images and a few texts at a time, and are
    recomputed in the backward pass, which stores the indices of the best tokens of `chunk_size` images:
    8 * chunk_size * (I + T) bytes per text. Only words are communicated between ranks. In float32 or above.

    Args:
        patch_embed: (B, I, D) unit norm.
        word_embed: (B, T, D) unit norm; row i belongs to image i.
        is_word: (B, T) bool; False for padding, start and end, which are ignored.
        logit_scale: () multiplier of the similarities, already exponentiated.
        chunk_size: images compared at a time.
        gather: compare with the texts of all ranks.

    Returns:
        () the loss, equal on every rank.

    Raises:
        ValueError: shapes that do not match, a text without words, a joint batch of one, ranks with different sizes.

    Reference: https://arxiv.org/abs/2111.07783.
    """
    _check(patch_embed, word_embed, is_word)
    ranks = rank_count(gather)
    check_joint_batch(len(patch_embed), ranks, patch_embed.device)
    with torch.autocast(patch_embed.device.type, enabled=False):
        patches, words, scale = at_least_float32(patch_embed, word_embed, logit_scale)
        words, is_word = _all_words(words, is_word, ranks)
        first = first_row(len(patches), ranks)

        def part(chunk: slice) -> Tensor:
            to_text, to_image = _scores(patches[chunk], words, is_word, TEXTS_PER_IMAGE * chunk_size)  # (c, N) each
            return _chunk_result(scale * to_text, scale * to_image, first + chunk.start)

        # the columns are log-sum-exps over some images: a log-sum-exp joins chunks, and another one ranks
        results = torch.stack(
            [recompute(part, chunk, draws=False) for chunk in chunks(len(patches), chunk_size)]
        )  # (P, 1 + N)
        column_sums = results[:, 1:].logsumexp(0)  # (N,) over the images of this rank
        column_sums = gather_with_gradient(column_sums[None], ranks).logsumexp(0)
        own_columns = slice(first, first + len(patches))
        total = results[:, 0].sum() + column_sums[own_columns].sum()
        return joint_loss(total / (2 * len(words)), ranks)


def token_similarity(patch_embed: Tensor, word_embed: Tensor, is_word: Tensor) -> tuple[Tensor, Tensor]:
    """Return the token-wise similarities of images and texts, in both directions.

    All products of tokens exist at once, (B * I, K * T): for few images and texts.

    Args:
        patch_embed: (B, I, D) unit norm.
        word_embed: (K, T, D) unit norm.
        is_word: (K, T) bool.

    Returns:
        Image to text (B, K) and text to image (B, K).
    """
    first_index = is_word.int().argmax(1)  # (K,)
    first_word = word_embed[torch.arange(len(word_embed), device=word_embed.device), first_index]  # (K, D)
    # tokens that are not words repeat the first word, which changes no maximum and saves a mask over all products
    words = torch.where(is_word[..., None], word_embed, first_word[:, None])  # (K, T, D)
    # one product of all tokens, (B * I, K * T)
    products = (patch_embed.flatten(0, 1) @ words.flatten(0, 1).T).unflatten(0, patch_embed.shape[:2])
    products = products.unflatten(2, words.shape[:2])  # (B, I, K, T)
    best_word, best_patch = products.max(3).values, products.max(1).values  # (B, I, K), (B, K, T)
    # the repeated first words count in the maximum only, not in the mean over words
    return best_word.mean(1), (best_patch * is_word).sum(2) / is_word.sum(1)


def _scores(patches: Tensor, words: Tensor, is_word: Tensor, texts_at_a_time: int) -> tuple[Tensor, Tensor]:
    """Compare patches (c, I, D) with words (N, T, D), some texts at a time; (c, N) in each direction."""
    parts = [token_similarity(patches, words[texts], is_word[texts]) for texts in chunks(len(words), texts_at_a_time)]
    to_text, to_image = (torch.cat(scores, dim=1) for scores in zip(*parts))
    return to_text, to_image


def _chunk_result(to_text: Tensor, to_image: Tensor, first: int) -> Tensor:
    """Return the contribution (1 + N,) of some rows of logits (c, N) to the joint loss.

    First the summed losses of the rows minus the positive logits of the columns, then the columns' log-sum-exps.
    """
    own_columns = torch.arange(first, first + len(to_text), device=to_text.device)  # (c,)
    rows = F.cross_entropy(to_text, own_columns, reduction="sum") - to_image.gather(1, own_columns[:, None]).sum()
    return torch.cat([rows[None], to_image.logsumexp(0)])


def _all_words(words: Tensor, is_word: Tensor, ranks: int) -> tuple[Tensor, Tensor]:
    """Gather the words (N, T, D) and their mask (N, T) of all ranks, padded to the longest text of any."""
    if ranks == 1:
        return words, is_word
    longest = torch.tensor(words.shape[1], device=words.device)
    dist.all_reduce(longest, dist.ReduceOp.MAX)
    missing = int(longest) - words.shape[1]
    # all_gather needs equal shapes; the padding is no word, and is ignored
    words, is_word = F.pad(words, (0, 0, 0, missing)), F.pad(is_word, (0, missing))
    # as bytes: not every communication backend takes booleans
    return gather_with_gradient(words, ranks), gather_rows(is_word.byte(), ranks).bool()


def _check(patches: Tensor, words: Tensor, is_word: Tensor) -> None:
    if patches.ndim != 3 or words.ndim != 3 or len(patches) != len(words) or patches.shape[2] != words.shape[2]:
        raise ValueError(
            f"expected patches (B, I, D) and words (B, T, D), got {tuple(patches.shape)} and {tuple(words.shape)}"
        )
    if is_word.shape != words.shape[:2] or is_word.dtype != torch.bool:
        raise ValueError(f"is_word: expected bool {tuple(words.shape[:2])}, got {is_word.dtype} {tuple(is_word.shape)}")
    empty = (~is_word.any(1)).nonzero().flatten().tolist()
    if empty:
        raise ValueError(f"texts {empty[:8]} have no words to match patches with")
