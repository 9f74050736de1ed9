"""A prompt knows which of its characters are which phrase."""

import pytest

from openvocab.vocabulary.prompt import Prompt


def test_phrases_are_the_characters_of_their_ranges():
    prompt = Prompt.of_caption("a woman in a red coat", [[(0, 7)], [(11, 21)], [(2, 7), (17, 21)]])
    assert prompt.phrase_texts == ("a woman", "a red coat", "woman coat")
    assert prompt.owners == (0, 1, 2)


def test_a_phrase_that_occurs_twice_is_two_classes():
    vocabulary = Prompt.of_caption("a dog and a dog", [[(0, 5)], [(10, 15)]]).vocabulary
    assert vocabulary.class_names == ("a dog", "a dog")


@pytest.mark.parametrize(
    ("phrases", "owners", "message"),
    [
        ((), (), "at least one phrase"),
        ((((0, 3),),), (), "expected 1, one per phrase"),
        (((),), (0,), "no characters"),
        ((((0, 6),),), (0,), "characters 0 to 6 are not inside the text of 5"),
        ((((2, 2),),), (0,), "characters 2 to 2 are not inside"),
        ((((-1, 2),),), (0,), "characters -1 to 2"),
        ((((1, 2),),), (0,), "are blank"),
    ],
)
def test_ranges_that_do_not_fit_are_errors(phrases, owners, message):
    with pytest.raises(ValueError, match=message):
        Prompt("a dog", phrases, owners)
