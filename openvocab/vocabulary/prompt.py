"""A text with marked phrases, as a model reads it that grounds phrases in an image."""

from collections.abc import Sequence
from dataclasses import dataclass

from openvocab.vocabulary.vocabulary import Vocabulary, has_visible_character

CharacterRange = tuple[int, int]
"""First character, and the one after the last."""


@dataclass(frozen=True)
class Prompt:
    """A caption, or the names of several classes in one text, with the characters of each phrase.

    Raises:
        ValueError: no phrase, a range outside the text or without visible characters, or a number of owners other than
            that of phrases.
    """

    text: str
    phrases: tuple[tuple[CharacterRange, ...], ...]
    """(P,) the ranges of characters that each phrase consists of, most often one."""
    owners: tuple[int, ...]
    """(P,) the class of each phrase, an index into the vocabulary; several synonyms have one owner."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not self.phrases:
            raise ValueError(f"a prompt needs at least one phrase, got none in {self.text[:80]!r}")
        if len(self.owners) != len(self.phrases):
            raise ValueError(f"owners: expected {len(self.phrases)}, one per phrase, got {len(self.owners)}")
        for index, ranges in enumerate(self.phrases):
            if not ranges:
                raise ValueError(f"phrase {index} of {self.text[:80]!r} has no characters")
            for begin, end in ranges:
                if not 0 <= begin < end <= len(self.text):
                    raise ValueError(
                        f"phrase {index}: characters {begin} to {end} are not inside the text of {len(self.text)} "
                        f"characters, {self.text[:80]!r}"
                    )
                if not has_visible_character(self.text[begin:end]):
                    raise ValueError(f"phrase {index}: characters {begin} to {end} of {self.text[:80]!r} are blank")

    @classmethod
    def of_caption(cls, text: str, phrases: Sequence[Sequence[CharacterRange]]) -> "Prompt":
        """Mark phrases in a caption; each of them is a class of its own."""
        marked = tuple(tuple((int(begin), int(end)) for begin, end in ranges) for ranges in phrases)
        return cls(text, marked, tuple(range(len(marked))))

    def __len__(self) -> int:
        return len(self.phrases)

    @property
    def phrase_texts(self) -> tuple[str, ...]:
        """(P,) the text of each phrase on one line; its ranges are joined by spaces."""
        texts = (" ".join(self.text[begin:end] for begin, end in ranges) for ranges in self.phrases)
        return tuple(" ".join(text.split()) for text in texts)

    @property
    def vocabulary(self) -> Vocabulary:
        """The phrases of a caption as classes; a phrase that occurs twice is two classes of one name."""
        texts = self.phrase_texts
        return Vocabulary(tuple((text,) for text in texts), repeated_names=texts)
