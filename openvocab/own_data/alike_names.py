"""Pairs of names that a text tower hardly tells apart: pixels and boxes of one get the other's name."""

import torch

from openvocab.text.base import TextEncoder
from openvocab.vocabulary.vocabulary import Vocabulary


def alike_names(encoder: TextEncoder, vocabulary: Vocabulary, bound: float) -> list[tuple[str, str, float]]:
    """Return (name, name, cosine) of the pairs of classes above a bound, the most alike first.

    Args:
        encoder: the text tower, with its templates.
        vocabulary: K classes.
        bound: cosine of two rows.
    """
    with torch.inference_mode():
        rows = encoder(vocabulary).embed  # (K, D), unit norm: the synonyms of a class are averaged
    names = vocabulary.class_names
    first, second = torch.triu_indices(len(names), len(names), offset=1)  # of each pair once
    cosines = (rows @ rows.T)[first, second]
    pairs = [
        (names[first[at]], names[second[at]], float(cosines[at])) for at in torch.nonzero(cosines > bound).flatten()
    ]
    return sorted(pairs, key=lambda pair: -pair[2])
