import re

import pytest

from openvocab.vocabulary.prompt import Prompt
from openvocab.vocabulary.vocabulary import Vocabulary
from openvocab.vocabulary.vocabulary_prompts import names_prompt, prompt_name, vocabulary_prompts


def count(text: str) -> int:
    """Count words and full stops."""
    return len(re.findall(r"\w+|[^\w\s]", text))


def prompts(*names, **options) -> list[Prompt]:
    return vocabulary_prompts(Vocabulary.from_names(names), count, **options)


def test_names_are_joined_in_their_order_as_in_the_evaluation():
    (prompt,) = prompts("stop sign", "bow (weapon)", "dog")
    assert prompt.text == "stop sign. bow. dog"
    assert prompt.phrase_texts == ("stop sign", "bow", "dog") and prompt.owners == (0, 1, 2)


def test_the_form_of_the_demo_ends_with_a_separator():
    assert prompts("stop sign", "dog", form="demo")[0].text == "stop sign . dog . "


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        ("bow_(decorative_ribbons)", "bow"),
        ("traffic_light", "traffic light"),
        ("red  dog", "red dog"),
        ("(a) dog (b) cat (c)", ""),  # from the first parenthesis to the last, as in the official code
        ("dog) (cat", "dog) (cat"),
    ],
)
def test_names_are_cleaned_as_in_the_official_code(name, cleaned):
    assert prompt_name(name) == cleaned


def test_a_name_of_nothing_but_what_is_removed_is_named():
    with pytest.raises(ValueError, match=r"class 1: nothing is left of the name '\(weapon\)'"):
        prompts("dog", "(weapon)")


def test_names_that_clean_to_the_same_are_phrases_of_their_own_classes():
    (prompt,) = prompts("bow (weapon)", "bow (ribbon)", "cat")
    assert prompt.phrase_texts == ("bow", "bow", "cat") and prompt.owners == (0, 1, 2)


def test_synonyms_are_phrases_of_one_class_in_one_prompt():
    made = prompts("dog", ["sofa", "couch", "sofa (furniture)"], "cat", names_at_once=2)
    assert [prompt.phrase_texts for prompt in made] == [("dog",), ("sofa", "couch"), ("cat",)]
    assert [prompt.owners for prompt in made] == [(0,), (1, 1), (2,)]


def test_a_full_stop_in_a_name_stays_a_token_of_its_own():
    (prompt,) = prompts("dr. who", "st.", "dog")
    assert prompt.text == "dr. who. st. . dog" and prompt.phrase_texts == ("dr. who", "st.", "dog")


@pytest.mark.parametrize(("form", "expected"), [("evaluation", [3, 1]), ("demo", [2, 2])])
def test_the_budget_is_used_up(form, expected):
    made = prompts("a b", "c", "d", "e", budget=6, form=form)  # "a b. c. d" are 6 tokens
    assert [len(prompt) for prompt in made] == expected
    assert all(count(prompt.text) <= 6 for prompt in made)


def test_a_class_longer_than_the_budget_is_named():
    with pytest.raises(ValueError, match="class 1: its names have 5 tokens together, and the network reads at most 4"):
        prompts("dog", "a b c d", budget=3)
    assert len(prompts("dog", "a b c d", budget=4)) == 2


def test_many_names_keep_their_order_and_their_limits():
    names = [f"name {number}" for number in range(5000)]
    made = prompts(*names, budget=254, names_at_once=40)
    assert [owner for prompt in made for owner in prompt.owners] == list(range(5000))
    assert [text for prompt in made for text in prompt.phrase_texts] == names
    assert {len(prompt) for prompt in made} == {40} and len(made) == 125


def test_the_background_is_left_out():
    vocabulary = Vocabulary.from_names(["background", "dog"], background="background")
    (prompt,) = vocabulary_prompts(vocabulary, count)
    assert prompt.text == "dog" and prompt.owners == (1,)
    with pytest.raises(ValueError, match="no class but the background, 'background'"):
        vocabulary_prompts(vocabulary.subset([0]), count)


def test_wrong_arguments_get_a_clear_line():
    with pytest.raises(ValueError, match="names_at_once: expected at least 1"):
        prompts("dog", names_at_once=0)
    with pytest.raises(ValueError, match="form"):
        names_prompt(["dog"], [0], form="official")
    with pytest.raises(ValueError, match="at least one phrase"):
        names_prompt([], [])
