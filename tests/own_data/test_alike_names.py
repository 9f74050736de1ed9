"""Names that a text tower hardly tells apart."""

import torch

from openvocab.own_data.alike_names import alike_names
from openvocab.structures import TextFeatures
from openvocab.vocabulary.vocabulary import Vocabulary

ANGLES = {"cat": 0.0, "kitten": 0.1, "dog": 1.0, "puppy": 1.05, "bus": 2.5}


class Angles:
    """A text tower whose rows lie on a circle."""

    def __call__(self, vocabulary):
        angles = torch.tensor([ANGLES[name] for name in vocabulary.class_names])
        return TextFeatures(torch.stack([angles.cos(), angles.sin()], dim=1), torch.tensor(100.0))


def test_pairs_above_the_bound_come_with_their_cosine_the_most_alike_first():
    pairs = alike_names(Angles(), Vocabulary.from_names([*ANGLES]), 0.99)
    assert [pair[:2] for pair in pairs] == [("dog", "puppy"), ("cat", "kitten")]
    assert abs(pairs[0][2] - torch.tensor(0.05).cos()) < 1e-6
    assert alike_names(Angles(), Vocabulary.from_names(["cat", "bus"]), 0.99) == []
    assert alike_names(Angles(), Vocabulary.from_names(["cat"]), -1.0) == []
