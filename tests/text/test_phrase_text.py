"""Phrases as single tokens of any encoder of whole texts."""

import pytest
import torch

from openvocab.text.clip_text import CLIPTextEncoder
from openvocab.text.phrase_text import PhraseTextEncoder
from openvocab.vocabulary.prompt import Prompt
from openvocab.vocabulary.vocabulary import Vocabulary
from openvocab.vocabulary.vocabulary_prompts import names_prompt, vocabulary_prompts


@pytest.fixture(scope="module")
def encoder() -> PhraseTextEncoder:
    torch.manual_seed(0)
    return PhraseTextEncoder(dict(type=CLIPTextEncoder, model="ConvNet-8-shapes", templates=["a {}", "one {}"]))


def test_a_phrase_has_the_row_of_the_class_with_its_name(encoder):
    prompts = [names_prompt(["red circle", "star", "Red  Circle"], [4, 2, 7]), names_prompt(["square"], [1])]
    tokens = encoder.with_tokens(prompts).tokens
    rows = encoder.encoder(Vocabulary.from_names(["red circle", "star", "square"])).embed
    torch.testing.assert_close(tokens.embed[0], rows[[0, 1, 0]])
    torch.testing.assert_close(tokens.embed[1, 0], rows[2])
    assert tokens.is_token.tolist() == [[True, True, True], [True, False, False]]
    assert [owners.tolist() for owners in tokens.owners] == [[4, 2, 7], [1]]
    assert [masks.int().tolist() for masks in tokens.phrases] == [[[1, 0, 0], [0, 1, 0], [0, 0, 1]], [[1, 0, 0]]]


def test_a_caption_has_a_token_for_each_phrase_however_many_words_it_has(encoder):
    caption = Prompt.of_caption("a red circle left of a blue star " * 20, [[(2, 12)], [(23, 32)]])
    tokens = encoder.with_tokens([caption]).tokens
    torch.testing.assert_close(
        tokens.embed[0], encoder.encoder(Vocabulary.from_names(["red circle", "blue star"])).embed
    )


def test_a_prompt_has_as_many_names_as_it_may_have_phrases():
    encoder = PhraseTextEncoder(dict(type=CLIPTextEncoder, model="ConvNet-8-shapes"), max_phrases=10)
    vocabulary = Vocabulary.from_names([f"a long name of thing {index}" for index in range(25)])
    budget = encoder.token_count, encoder.token_budget
    prompts = vocabulary_prompts(vocabulary, *budget, separator_tokens=encoder.separator_tokens)
    assert [len(prompt) for prompt in prompts] == [10, 10, 5]


def test_captions_are_refused(encoder):
    with pytest.raises(ValueError, match="reads prompts, whose phrases are its tokens"):
        encoder.with_tokens(["a red circle"])


def test_whole_texts_go_through_the_encoder_within(encoder):
    vocabulary = Vocabulary.from_names(["red circle", "star"])
    assert torch.equal(encoder(vocabulary).embed, encoder.encoder(vocabulary).embed)
    assert encoder.embed_dim == 128 and encoder.templates == ("a {}", "one {}")
