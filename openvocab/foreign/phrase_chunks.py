"""Groups of names that go through a network together which sees names and image at the same time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from openvocab.vocabulary.class_groups import class_groups
from openvocab.vocabulary.vocabulary import Vocabulary


@dataclass(frozen=True)
class PhraseChunk:
    """Some classes of a vocabulary with the texts of all their names."""

    classes: tuple[int, ...]
    """(k,) indices into the vocabulary."""
    phrases: tuple[str, ...]
    """(P,) texts, those of a class next to each other."""
    owners: tuple[int, ...]
    """(P,) for each phrase its class, as an index into `classes`."""


def phrase_chunks(
    vocabulary: Vocabulary,
    phrase_of: Callable[[str], str],
    names_at_once: int,
    max_length: int | None = None,
    length_of: Callable[[str], int] = len,
) -> list[PhraseChunk]:
    """Divide a vocabulary into groups that fit a network.

    The classes are taken in the order of the alphabet, so that a prediction does not depend on their order. All names
    of a class are in one group.

    Args:
        vocabulary: K classes.
        phrase_of: maps a name to the text that the network reads.
        names_at_once: largest number of names in a group; a class with more has a group of its own.
        max_length: largest sum of the lengths of a group; default: no limit.
        length_of: the length of a phrase, in the unit of `max_length`.

    Raises:
        ValueError: the names of a single class are too long.
    """
    texts = [tuple(phrase_of(name) for name in synonyms) for synonyms in vocabulary.synonyms]
    order = sorted(range(len(texts)), key=texts.__getitem__)
    groups = class_groups(texts, order, names_at_once, max_length, length_of)
    return [_chunk(texts, group) for group in groups]


def best_of_class(of_phrases: Tensor, chunk: PhraseChunk) -> Tensor:
    """Return the scores (N, k) of classes, those of their best names, from scores (N, P) in 0..1 of all names."""
    owners = torch.tensor(chunk.owners, device=of_phrases.device).expand_as(of_phrases)
    scores = of_phrases.new_zeros(len(of_phrases), len(chunk.classes))
    return scores.scatter_reduce(1, owners, of_phrases, "amax")


def _chunk(texts: Sequence[tuple[str, ...]], group: Sequence[int]) -> PhraseChunk:
    owners = [owner for owner, index in enumerate(group) for _ in texts[index]]
    return PhraseChunk(tuple(group), tuple(phrase for index in group for phrase in texts[index]), tuple(owners))
