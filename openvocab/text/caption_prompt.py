"""A free caption as a prompt: its phrases are given, or they are its noun phrases."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import TypeGuard

from openvocab.text.noun_phrases import noun_phrases
from openvocab.vocabulary.prompt import CharacterRange, Prompt
from openvocab.vocabulary.vocabulary import has_visible_character

Phrase = str | CharacterRange | Sequence[CharacterRange]
"""A text that the caption contains, its first character and the one after the last, or several such ranges."""
PhraseFinder = Callable[[str], Sequence[CharacterRange]]


def caption_prompt(caption: str, phrases: Sequence[Phrase] | None = None, finder: PhraseFinder | None = None) -> Prompt:
    """Mark the phrases of a caption, each of them a class of its own.

    Args:
        caption: a sentence.
        phrases: P phrases: a text means its first occurrence as whole words, in upper or lower case; default: those
            that `finder` finds.
        finder: returns the characters of the phrases of a caption; default: `noun_phrases`.

    Raises:
        ValueError: the caption is empty, has a control character or no noun phrases, there are no phrases, one of them
            does not occur, or `Prompt` rejects its characters.
    """
    if not isinstance(caption, str) or not has_visible_character(caption):
        raise ValueError(f"caption: expected a sentence, got {caption!r}")
    if any(unicodedata.category(char) in ("Cc", "Cs") and not char.isspace() for char in caption):
        raise ValueError(f"caption: {caption[:80]!r} contains a control character; replace it by a space")
    if phrases is not None:
        return Prompt.of_caption(caption, _given(caption, phrases))
    found = (finder or noun_phrases)(caption)
    if not found:
        raise ValueError(
            f"no noun was found in the caption {caption[:80]!r}; give the phrases themselves: phrases=[...]"
        )
    return Prompt.of_caption(caption, [[span] for span in found])


def _given(caption: str, phrases: Sequence[Phrase]) -> list[list[CharacterRange]]:
    if isinstance(phrases, str):
        raise ValueError(f"phrases: expected a list, got one string {phrases!r}; put it in a list")
    if not phrases:
        raise ValueError("phrases: expected at least one, got an empty list; None means the nouns of the caption")
    return [_ranges(caption, phrase) for phrase in phrases]


def _ranges(caption: str, phrase: Phrase) -> list[CharacterRange]:
    if isinstance(phrase, str):
        return [_first_occurrence(caption, phrase)]
    if _is_range(phrase):
        return [phrase]
    if isinstance(phrase, Sequence) and phrase and all(map(_is_range, phrase)):
        return [span for span in phrase if _is_range(span)]
    raise ValueError(
        "phrases: expected a text of the caption, its first character and the one after the last as two whole numbers, "
        f"or several such pairs, got {phrase!r}"
    )


def _is_range(value: object) -> TypeGuard[CharacterRange]:
    """Return whether these are two whole numbers."""
    return (
        isinstance(value, (tuple, list))
        and len(value) == 2
        and all(isinstance(number, Integral) and not isinstance(number, bool) for number in value)
    )


def _first_occurrence(caption: str, phrase: str) -> CharacterRange:
    if has_visible_character(phrase):
        # in either encoding of accents
        forms = [unicodedata.normalize(form, phrase).split() for form in ("NFC", "NFD")]
        text = "(?:{}|{})".format(*(r"\s+".join(map(re.escape, words)) for words in forms))
        # languages without white space have no whole words
        for pattern in (rf"(?<!\w){text}(?!\w)", text):
            if match := re.search(pattern, caption, re.IGNORECASE):
                return match.span()
    raise ValueError(f"phrases: {phrase!r} does not occur in the caption {caption[:200]!r}")
