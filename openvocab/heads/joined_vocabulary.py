"""Batches whose samples have different vocabularies, as the episodes of few-shot training do."""

from collections.abc import Sequence

import torch
from torch import Tensor

from openvocab.structures import Sample, known
from openvocab.vocabulary.vocabulary import Vocabulary


def joined_vocabulary(samples: Sequence[Sample]) -> Vocabulary:
    """Return the classes of all samples, each once; if all samples have the same vocabulary, that one.

    Raises:
        ValueError: a sample without a vocabulary, or vocabularies of different lengths.
    """
    for sample in samples:
        if sample.vocabulary is None:
            raise ValueError(f"sample {sample.sample_id!r} has no vocabulary; its dataset must provide one")
    objects = {id(vocabulary): vocabulary for vocabulary in _vocabularies(samples)}  # mostly one
    vocabularies = list(dict.fromkeys(objects.values()))
    if len(vocabularies) == 1:
        return vocabularies[0]
    lengths = sorted({len(vocabulary) for vocabulary in vocabularies})
    if len(lengths) > 1:
        raise ValueError(
            f"the samples of one batch have different vocabularies, of {lengths[0]} to {lengths[-1]} classes; "
            "put them into separate batches"
        )
    classes = dict.fromkeys(names for vocabulary in vocabularies for names in vocabulary.synonyms)
    return Vocabulary(tuple(classes), synonym_merge=vocabularies[0].synonym_merge)


def positions_in_joined(samples: Sequence[Sample]) -> Tensor | None:
    """Return the positions of each sample's classes in `joined_vocabulary`.

    Returns:
        (B, K) int64; None if all samples have the same vocabulary.
    """
    joined = joined_vocabulary(samples)
    if joined is samples[0].vocabulary:
        return None
    position = {names: index for index, names in enumerate(joined.synonyms)}
    return torch.tensor([[position[names] for names in vocabulary.synonyms] for vocabulary in _vocabularies(samples)])


def _vocabularies(samples: Sequence[Sample]) -> list[Vocabulary]:
    return [known(sample.vocabulary, f"vocabulary of sample {sample.sample_id!r}") for sample in samples]
