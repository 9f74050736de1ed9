import numpy as np
import pytest

from openvocab.text.caption_prompt import caption_prompt
from openvocab.text.noun_phrases import rule_noun_phrases

CAPTION = "a woman in a red coat walks two small dogs (2)"


def test_noun_phrases_become_classes_of_their_own():
    prompt = caption_prompt(CAPTION, finder=rule_noun_phrases)
    assert prompt.text == CAPTION and prompt.owners == (0, 1, 2)
    assert prompt.phrase_texts == ("a woman", "a red coat", "two small dogs")


def test_each_occurrence_that_is_found_is_a_phrase():
    prompt = caption_prompt("a dog and a dog", finder=rule_noun_phrases)
    assert prompt.phrases == (((0, 5),), ((10, 15),))
    assert prompt.vocabulary.class_names == ("a dog", "a dog")


@pytest.mark.parametrize(
    ("phrases", "texts"),
    [
        (["a red coat", "dogs"], ("a red coat", "dogs")),
        (["Red  Coat"], ("red coat",)),
        (["(2)"], ("(2)",)),  # characters of regular expressions mean themselves
        ([(2, 7), [(13, 16), (28, 31)]], ("woman", "red two")),
        ([[2, 7]], ("woman",)),
        (["a"], ("a",)),
    ],
)
def test_phrases_are_given_by_text_or_by_characters(phrases, texts):
    assert caption_prompt(CAPTION, phrases).phrase_texts == texts


def test_a_text_means_its_first_occurrence_as_whole_words():
    assert caption_prompt("concatenated cat and cat", ["cat"]).phrases == (((13, 16),),)
    assert caption_prompt("一只猫和一张沙发", ["猫"]).phrases == (((2, 3),),)


@pytest.mark.parametrize(
    ("caption", "phrases", "message"),
    [
        ("", None, "caption: expected a sentence, got ''"),
        (" \u200b", ["a"], "caption: expected a sentence"),
        (CAPTION, ["a cat"], r"phrases: 'a cat' does not occur in the caption 'a woman"),
        (CAPTION, [" "], r"phrases: ' ' does not occur"),
        (CAPTION, [], r"phrases: expected at least one, got an empty list"),
        (CAPTION, "dogs", r"phrases: expected a list, got one string 'dogs'"),
        (CAPTION, [3], r"phrases: expected a text of the caption, .* got 3"),
        (CAPTION, [(1.5, 2)], r"got \(1.5, 2\)"),
        (CAPTION, [[]], r"got \[\]"),
        (CAPTION, [(40, 99)], r"phrase 0: characters 40 to 99 are not inside the text"),
        (CAPTION, [(7, 8)], r"phrase 0: characters 7 to 8 .* are blank"),
        ("running in the", None, r"no noun was found in the caption 'running in the'; .* phrases=\[...\]"),
    ],
)
def test_each_mistake_gets_one_clear_line(caption, phrases, message):
    with pytest.raises(ValueError, match=message):
        caption_prompt(caption, phrases, finder=rule_noun_phrases)


def test_accents_are_found_in_either_encoding():
    composed, apart = "a caf\u00e9 table", "a cafe\u0301 table"
    for caption in (composed, apart):
        for phrase in ("caf\u00e9", "Cafe\u0301"):
            assert caption_prompt(caption, [phrase]).phrases == (((2, len(caption) - 6),),)


def test_ranges_may_be_numbers_of_numpy():
    prompt = caption_prompt("a dog", [np.array([2, 5]).tolist(), (np.int64(0), np.int64(5))])
    assert prompt.phrases == (((2, 5),), ((0, 5),)) and all(type(n) is int for (span,) in prompt.phrases for n in span)


def test_control_characters_are_an_error_and_line_ends_are_white_space():
    for caption in ("a d\x00g", "a dog\ud800", "\x1b a dog"):
        with pytest.raises(ValueError, match="contains a control character; replace it by a space"):
            caption_prompt(caption)
    assert caption_prompt("a red\r\n\tdog", ["red dog"]).phrase_texts == ("red dog",)
