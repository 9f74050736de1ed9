"""Captions token by token from CLIP's text tower."""

import open_clip
import pytest
import torch

from openvocab.text.clip_text import CLIPTextEncoder
from openvocab.text.precomputed import PrecomputedTextEncoder
from openvocab.text.text_tower import encode_tokens

CAPTIONS = ["a red circle", "two blue stars, one green ring"]


@pytest.fixture(scope="module")
def encoder() -> CLIPTextEncoder:
    torch.manual_seed(0)
    return CLIPTextEncoder("ConvNet-8-shapes", trainable="all")


def test_pooled_embeddings_are_those_of_forward(encoder: CLIPTextEncoder):
    torch.testing.assert_close(encoder.with_tokens(CAPTIONS).embed, encoder(CAPTIONS).embed, atol=1e-6, rtol=1e-5)


def test_words_are_what_is_neither_start_nor_end_nor_padding(encoder: CLIPTextEncoder):
    tokens = encoder.with_tokens(CAPTIONS).tokens
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    for caption, ids, is_word in zip(CAPTIONS, tokens.ids, tokens.is_word):
        assert ids[is_word].tolist() == tokenizer.encode(caption)
    assert tokens.ids.shape == tokens.is_word.shape == tokens.embed.shape[:2]
    assert tokens.ids.shape[1] == 2 + len(tokenizer.encode(CAPTIONS[1]))


def test_the_embedding_of_the_end_token_is_the_pooled_one(encoder: CLIPTextEncoder):
    text = encoder.with_tokens(CAPTIONS)
    ends = text.tokens.is_word.sum(1) + 1
    pooled = torch.nn.functional.normalize(text.tokens.embed[torch.arange(2), ends], dim=1)
    torch.testing.assert_close(pooled, text.embed)


def test_the_tower_runs_on_other_ids(encoder: CLIPTextEncoder):
    tokens = encoder.with_tokens(CAPTIONS).tokens
    states = tokens.states_of(tokens.ids)
    assert states.shape == (*tokens.ids.shape, encoder.text.width)
    changed = tokens.ids.clone()
    changed[0, 2] = tokens.mask_id
    other = tokens.states_of(changed)
    torch.testing.assert_close(other[:, :2], states[:, :2])  # causal
    assert not torch.allclose(other[0, 2:], states[0, 2:]) and tokens.table is encoder.text.token_embedding.weight


def test_no_text_contains_the_mask_token(encoder: CLIPTextEncoder):
    text = encoder.with_tokens(["a\x00b null \x00 byte", "!", "<|endoftext|>x"])
    assert not (text.tokens.ids == text.tokens.mask_id).any()
    assert text.tokens.mask_id in text.tokens.special_ids


@pytest.fixture(scope="module")
def bidirectional() -> CLIPTextEncoder:
    torch.manual_seed(0)
    return CLIPTextEncoder("ConvNet-8-shapes-bidirectional", trainable="all")


def test_a_bidirectional_tower_sees_the_words_behind_and_no_padding(bidirectional: CLIPTextEncoder):
    tokens = bidirectional.with_tokens(CAPTIONS).tokens
    changed = tokens.ids.clone()
    changed[0, 3] = tokens.mask_id
    before, after = tokens.states_of(tokens.ids), tokens.states_of(changed)
    assert not torch.allclose(before[0, 1], after[0, 1])  # a word before the changed one
    torch.testing.assert_close(before[1], after[1])
    longer = torch.nn.functional.pad(tokens.ids, (0, 5))
    torch.testing.assert_close(tokens.states_of(longer)[:, : tokens.ids.shape[1]], before)


@pytest.mark.parametrize("exact_lengths", [False, True])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_bidirectional_tower_equals_open_clips_with_its_padding_masked(
    bidirectional: CLIPTextEncoder, checkpointing: bool, exact_lengths: bool
):
    tower = bidirectional.text
    ids = open_clip.get_tokenizer("ViT-B-32")(CAPTIONS + ["a", "a photo of a green ring beside a blue star"])
    lengths = (ids != 0).sum(1)
    tower.set_grad_checkpointing(checkpointing)
    with torch.no_grad():
        expected = tower(ids)  # at the full context
        actual = encode_tokens(tower, ids, lengths, batch_size=2, exact_lengths=exact_lengths)
    tower.set_grad_checkpointing(False)
    assert tower.attn_mask is None and tower.use_pad_mask
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        bidirectional.with_tokens(CAPTIONS).embed, torch.nn.functional.normalize(expected[:2], dim=1)
    )


def test_towers_without_token_outputs_say_so(tmp_path):
    encoder = CLIPTextEncoder("ConvNet-8-shapes")
    encoder.text.attn_mask = None
    with pytest.raises(ValueError, match="causal or with masked padding"):
        encoder.with_tokens(CAPTIONS)
    table = PrecomputedTextEncoder.__new__(PrecomputedTextEncoder)
    with pytest.raises(ValueError, match="PrecomputedTextEncoder has no token outputs"):
        table.with_tokens(CAPTIONS)
