"""FILIP's loss against the paper's sums, token by token in float64."""

import pytest
import torch
import torch.nn.functional as F
from embeds import as_double, assert_same_value_and_gradients, random_rows

from openvocab.losses import filip, info_nce

IS_WORD = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0], [0, 1, 1, 0], [1, 1, 0, 0], [0, 0, 0, 1], [1, 1, 1, 0]]).bool()


def token_by_token(patches, words, is_word, scale):
    """Both similarities of every image with every text, by loops over tokens; then two cross entropies."""
    to_text, to_image = [], []
    for image in patches:
        for text, mask in zip(words, is_word):
            kept = [word for word, keep in zip(text, mask) if keep]
            to_text.append(sum(max(patch @ word for word in kept) for patch in image) / len(image))
            to_image.append(sum(max(patch @ word for patch in image) for word in kept) / len(kept))
    count = len(patches)
    to_text, to_image = (scale * torch.stack(values).view(count, count) for values in (to_text, to_image))
    target = torch.arange(count)
    return (F.cross_entropy(to_text, target) + F.cross_entropy(to_image.T, target)) / 2


def make_leaves():
    return [random_rows(6, 5, 8), random_rows(6, 4, 8, seed=1), torch.tensor(10.0, requires_grad=True)]


@pytest.mark.parametrize("chunk_size", [1, 4, 16])
def test_equals_the_definition(chunk_size: int):
    leaves = make_leaves()
    exact = as_double(leaves)
    expected = token_by_token(*exact[:2], IS_WORD, exact[2])
    loss = filip(*leaves[:2], IS_WORD, leaves[2], chunk_size=chunk_size)
    assert_same_value_and_gradients(loss, leaves, expected, exact)


def test_one_patch_and_one_word_make_it_info_nce():
    images, texts, scale = random_rows(6, 8), random_rows(6, 8, seed=1), torch.tensor(10.0)
    loss = filip(images[:, None], texts[:, None], torch.ones(6, 1, dtype=torch.bool), scale)
    torch.testing.assert_close(loss, info_nce(images, texts, scale))


def test_what_is_not_a_word_has_no_say_and_gets_no_gradient():
    patches, words, scale = make_leaves()
    spoiled = torch.where(IS_WORD[..., None], words, 50.0).detach().requires_grad_()
    loss = filip(patches, spoiled, IS_WORD, scale)
    torch.testing.assert_close(loss, filip(patches, words, IS_WORD, scale))
    (grad,) = torch.autograd.grad(loss, spoiled)
    assert not grad[~IS_WORD].any() and grad[IS_WORD].any()


def test_the_order_of_patches_words_and_pairs_does_not_matter():
    patches, words, scale = make_leaves()
    loss = filip(patches, words, IS_WORD, scale)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(filip(patches.flip(1), words.flip(1), IS_WORD.flip(1), scale), loss)
    torch.testing.assert_close(filip(patches[order], words[order], IS_WORD[order], scale), loss)


def test_no_array_of_all_tokens_is_made():
    patches, words = random_rows(32, 16, 8), random_rows(32, 8, 8, seed=1)
    is_word, scale = torch.ones(32, 8, dtype=torch.bool), torch.tensor(10.0)
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        filip(patches, words, is_word, scale, chunk_size=4).backward()
    largest = max(event.cpu_memory_usage for event in profile.events())
    assert largest < 32 * 32 * 16 * 8 * 4 / 8


@pytest.mark.parametrize(
    ("patches", "words", "is_word", "message"),
    [
        ((1, 2, 4), (1, 3, 4), torch.ones(1, 3).bool(), "at least two"),
        ((2, 2, 4), (2, 3, 5), torch.ones(2, 3).bool(), r"\(2, 3, 5\)"),
        ((2, 2, 4), (2, 3, 4), torch.ones(2, 3), "bool"),
        ((2, 2, 4), (2, 3, 4), torch.tensor([[1, 0, 0], [0, 0, 0]]).bool(), r"texts \[1\] have no words"),
    ],
)
def test_refuses_what_cannot_be_compared(patches, words, is_word, message):
    with pytest.raises(ValueError, match=message):
        filip(torch.ones(patches), torch.ones(words), is_word, torch.tensor(1.0))
