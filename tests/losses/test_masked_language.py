"""Which words are hidden, what becomes of them, and the loss of naming them."""

import pytest
import torch
import torch.nn.functional as F
from embeds import as_double, assert_same_value_and_gradients, random_rows

from openvocab.losses import corrupt_tokens, masked_language

VOCABULARY, MASK, SPECIAL = 50, 7, (0, 7, 48, 49)


def captions(rows: int = 4000, length: int = 12):
    """Start, words, end, padding."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(8, 48, (rows, length), generator=generator)
    ids[:, 0], ids[:, 8], ids[:, 9:] = 48, 49, 0
    is_word = torch.zeros(rows, length, dtype=torch.bool)
    is_word[:, 1:8] = True
    return ids, is_word


def corrupt(ids, is_word, **options):
    generator = torch.Generator().manual_seed(1)
    settings = dict(mask_id=MASK, vocabulary_size=VOCABULARY, special_ids=SPECIAL, generator=generator)
    return corrupt_tokens(ids, is_word, **{**settings, **options})


def test_chooses_fifteen_percent_of_the_words_and_nothing_else():
    ids, is_word = captions()
    corrupted, chosen = corrupt(ids, is_word)
    assert not chosen[~is_word].any()
    assert torch.equal(corrupted[~chosen], ids[~chosen])
    assert chosen[is_word].double().mean().item() == pytest.approx(0.15, abs=0.01)


def test_of_the_chosen_80_percent_are_masked_10_random_10_kept():
    ids, is_word = captions()
    corrupted, chosen = corrupt(ids, is_word)
    masked = corrupted[chosen] == MASK
    kept = corrupted[chosen] == ids[chosen]
    assert masked.double().mean().item() == pytest.approx(0.8, abs=0.03)
    assert (~masked & ~kept).double().mean().item() == pytest.approx(0.1, abs=0.02)
    assert kept.double().mean().item() == pytest.approx(0.1, abs=0.02)


def test_other_shares_of_the_chosen_words():
    ids, is_word = captions()
    corrupted, chosen = corrupt(ids, is_word, mask_share=0.9, random_share=0.0)
    masked = corrupted[chosen] == MASK
    assert masked.double().mean().item() == pytest.approx(0.9, abs=0.02)
    assert torch.equal(corrupted[chosen][~masked], ids[chosen][~masked])
    for shares in (dict(mask_share=0.8, random_share=0.3), dict(mask_share=-0.1), dict(random_share=-0.1)):
        with pytest.raises(ValueError, match="mask_share and random_share: expected 0 or more, and a sum of at most 1"):
            corrupt(ids, is_word, **shares)


def test_random_words_are_drawn_evenly_from_all_that_are_not_special():
    ids, is_word = captions()
    ids = torch.where(is_word, 8, ids)
    corrupted, chosen = corrupt(ids, is_word, probability=1.0)
    words = corrupted[chosen & (corrupted != MASK) & (corrupted != 8)]
    counts = words.bincount(minlength=VOCABULARY)
    assert not counts[list(SPECIAL)].any()
    ordinary = [i for i in range(VOCABULARY) if i not in (*SPECIAL, 8)]
    expected = len(words) / len(ordinary)
    assert (counts[ordinary] > expected * 0.5).all() and (counts[ordinary] < expected * 1.5).all()


def test_the_given_ids_are_not_changed():
    ids, is_word = captions(50)
    before = ids.clone()
    corrupt(ids, is_word)
    assert torch.equal(ids, before)


@pytest.mark.parametrize("chunk_size", [2, 64])
def test_loss_is_the_cross_entropy_against_the_table(chunk_size: int):
    leaves, targets = [random_rows(7, 5), random_rows(20, 5, seed=1)], torch.arange(7)
    exact = as_double(leaves)
    logits = exact[0] @ exact[1].T
    expected = -torch.stack([logits[i, i] - logits[i].exp().sum().log() for i in range(7)]).mean()
    assert_same_value_and_gradients(masked_language(*leaves, targets, chunk_size), leaves, expected, exact)
    torch.testing.assert_close(expected, F.cross_entropy(logits, targets))


def test_no_chosen_word_is_a_loss_of_zero_with_a_gradient():
    states, table = torch.zeros(0, 5, requires_grad=True), torch.ones(20, 5, requires_grad=True)
    loss = masked_language(states, table, torch.zeros(0, dtype=torch.long))
    loss.backward()
    assert loss.item() == 0 and not table.grad.any()


def test_refuses_bad_arguments():
    ids, is_word = captions(2)
    with pytest.raises(ValueError, match="probability"):
        corrupt(ids, is_word, probability=1.5)
    with pytest.raises(ValueError, match="differ in shape"):
        corrupt(ids, is_word[:, 1:])
    with pytest.raises(ValueError, match="do not fit"):
        masked_language(torch.ones(2, 5), torch.ones(9, 6), torch.zeros(2, dtype=torch.long))
