"""Masked language modeling: hide some words of a caption and name them."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from openvocab.losses.chunked_sum import at_least_float32, sum_over_chunks


def corrupt_tokens(
    ids: Tensor,
    is_word: Tensor,
    *,
    mask_id: int,
    vocabulary_size: int,
    special_ids: Sequence[int],
    probability: float = 0.15,
    mask_share: float = 0.8,
    random_share: float = 0.1,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Choose each word with a probability; replace most chosen words with the mask and some with another word.

    Args:
        ids: (B, T) int64.
        is_word: (B, T) bool; only words are chosen, no padding, start or end.
        mask_id: id of the token that replaces a hidden word.
        vocabulary_size: V; the other word is drawn uniformly from all ids below V that are not special.
        special_ids: ids of start, end, padding and mask.
        probability: probability that a word is chosen.
        mask_share, random_share: fractions of the chosen words that become the mask, and another word; the rest are
            kept. BERT and DeCLIP: 0.8 and 0.1; x-clip: 0.9 and 0.
        generator: source of the random draws, on the device of `ids`.

    Returns:
        Corrupted ids (B, T) int64, and which words were chosen (B, T) bool.

    Raises:
        ValueError: a probability outside 0..1, fractions that are negative or sum to more than 1, shapes that differ.

    Reference: https://arxiv.org/abs/1810.04805 (BERT).
    """
    if not 0 < probability <= 1:
        raise ValueError(f"probability: expected a fraction above 0 and up to 1, got {probability}")
    check_shares(mask_share, random_share)
    if ids.shape != is_word.shape:
        raise ValueError(f"ids {tuple(ids.shape)} and is_word {tuple(is_word.shape)} differ in shape")
    chosen = is_word & (_uniform(ids, generator) < probability)
    # a second draw, independent of the first: what happens to a chosen word
    fate = _uniform(ids, generator)
    special = sorted({index for index in special_ids if 0 <= index < vocabulary_size})
    words = torch.randint(vocabulary_size - len(special), ids.shape, generator=generator, device=ids.device)  # (B, T)
    for index in special:  # ascending, so that skipping one id after the other keeps the draw uniform
        words = words + (words >= index)
    corrupted = torch.where(chosen & (fate < mask_share), mask_id, ids)
    corrupted = torch.where(chosen & (fate >= mask_share) & (fate < mask_share + random_share), words, corrupted)
    return corrupted, chosen


def masked_language(states: Tensor, table: Tensor, targets: Tensor, chunk_size: int = 256) -> Tensor:
    """Return the mean cross entropy of the hidden words, scored against the tower's own token embeddings.

    The output layer is tied to the input table (as in GPT-2; DeCLIP and x-clip train another). Logits over the
    vocabulary exist for `chunk_size` words at a time, in float32. Each rank averages its own words.

    Args:
        states: (M, C) last states at the chosen words.
        table: (V, C) token embeddings.
        targets: (M,) int64 ids of the original words.
        chunk_size: words scored at a time.

    Returns:
        () the loss; zero, with a gradient of zeros, if no word was chosen.

    Raises:
        ValueError: states and table of different width.
    """
    if states.ndim != 2 or states.shape[1] != table.shape[1]:
        raise ValueError(
            f"states {tuple(states.shape)} do not fit a table {tuple(table.shape)}; expected (M, C), (V, C)"
        )
    with torch.autocast(states.device.type, enabled=False):
        states, table = at_least_float32(states, table)
        if not len(states):
            # zero, but with a graph: otherwise a rank without chosen words would lack gradients that others wait for
            return (states.sum() + table.sum()) * 0

        def part(chunk: slice) -> Tensor:
            return F.cross_entropy(states[chunk] @ table.T, targets[chunk], reduction="sum")

        return sum_over_chunks(part, len(states), chunk_size) / len(states)


def check_shares(mask_share: float, random_share: float) -> None:
    """Raise `ValueError` for fractions that are negative or sum to more than 1."""
    if mask_share < 0 or random_share < 0 or mask_share + random_share > 1:
        raise ValueError(
            f"mask_share and random_share: expected 0 or more, and a sum of at most 1, got {mask_share} and "
            f"{random_share}"
        )


def _uniform(like: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.rand(like.shape, generator=generator, device=like.device)
