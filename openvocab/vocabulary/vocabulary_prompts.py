"""The names of a vocabulary as prompts: several names in one text, each of them a phrase."""

import re
from collections.abc import Callable, Sequence
from typing import Literal, get_args

from openvocab.argument_checks import check_choice
from openvocab.vocabulary.class_groups import class_groups
from openvocab.vocabulary.prompt import Prompt
from openvocab.vocabulary.vocabulary import Vocabulary, has_visible_character

PromptForm = Literal["evaluation", "demo"]
"""Of GLIP: names with ". " between them (evaluation and training), or with " . " after each (its demo)."""


def vocabulary_prompts(
    vocabulary: Vocabulary,
    token_count: Callable[[str], int],
    budget: int | None = None,
    names_at_once: int | None = None,
    form: PromptForm = "evaluation",
    separator_tokens: int = 1,
) -> list[Prompt]:
    """Write all names of a vocabulary into as few prompts as possible, in its order.

    Names are cleaned (`prompt_name`). All names of a class are phrases of one prompt. A class that means "everything
    else" is left out.

    Args:
        vocabulary: K classes.
        token_count: returns the number of tokens of a text.
        budget: largest number of tokens of a prompt, without start and end; None: no limit.
        names_at_once: largest number of names in a prompt; default: as many as fit. GLIP on LVIS: 40.
        form: how the names are joined.
        separator_tokens: tokens of the full stop after a name.

    Raises:
        ValueError: a name without letters after cleaning, a class whose names exceed the budget, or no class but the
            background. The message names the class.

    Reference:
        Grounded Language-Image Pre-training, arXiv 2112.03857.
    """
    names = [
        # synonyms that differ only in what cleaning removes are one phrase
        list(dict.fromkeys(_named(name, index) for name in synonyms))
        for index, synonyms in enumerate(vocabulary.synonyms)
    ]
    classes = [index for index in range(len(vocabulary)) if index != vocabulary.background]
    if not classes:
        raise ValueError(f"the vocabulary has no class but the background, {vocabulary.class_names[0]!r}")
    if budget is not None and form == "evaluation":
        budget += separator_tokens  # no full stop after the last name
    groups = class_groups(names, classes, names_at_once, budget, lambda name: token_count(name) + separator_tokens)
    return [_joined(names, group, form) for group in groups]


def names_prompt(names: Sequence[str], owners: Sequence[int], form: PromptForm = "evaluation") -> Prompt:
    """Join names to one prompt, each of them a phrase.

    Args:
        names: P names, which are cleaned (`prompt_name`).
        owners: P, the class of each.
        form: how they are joined.

    Raises:
        ValueError: no names, one that cleans to nothing, or a number of owners other than that of names.
    """
    check_choice("form", form, get_args(PromptForm))
    text, phrases = "", []
    for name, owner in zip(names, owners, strict=True):
        name = _named(name, owner)
        if text and form == "evaluation":
            # one full stop per token: after another one, it would be part of the same token of CLIP
            text += ". " if text[-1].isalnum() else " . "
        phrases.append(((len(text), len(text) + len(name)),))
        text += name if form == "evaluation" else f"{name} . "
    return Prompt(text, tuple(phrases), tuple(owners))


def prompt_name(name: str) -> str:
    """Return a class name as prompts contain it: without what is in parentheses, underscores as spaces."""
    return " ".join(re.sub(r"\(.*\)", "", name).replace("_", " ").split())


def _joined(names: Sequence[Sequence[str]], group: Sequence[int], form: PromptForm) -> Prompt:
    owners = [index for index in group for _ in names[index]]
    return names_prompt([name for index in group for name in names[index]], owners, form)


def _named(name: str, index: int) -> str:
    cleaned = prompt_name(name)
    if not has_visible_character(cleaned):
        raise ValueError(
            f"class {index}: nothing is left of the name {name!r} without what is in parentheses and underscores"
        )
    return cleaned
