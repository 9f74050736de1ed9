"""The rule by which two opinions become one score."""

import pytest
import torch

from openvocab.detection.score_fusion import fuse_scores
from openvocab.text.vocabulary import Vocabulary

TEXT = torch.tensor([[0.6, 0.2, 0.001], [0.0, 1.0, 0.5]])
IMAGE = torch.tensor([[0.1, 0.7, 0.2], [0.3, 0.0, 1.0]])


def vocabulary(unseen=("b",)) -> Vocabulary:
    return Vocabulary.from_names(["a", "b", "c"], unseen=unseen)


def test_vilds_rule_by_hand():
    expected = [
        [(0.6**2 * 0.1) ** (1 / 3), (0.2 * 0.7**2) ** (1 / 3), (0.001**2 * 0.2) ** (1 / 3)],
        [0.0, 0.0, (0.5**2 * 1.0) ** (1 / 3)],
    ]
    torch.testing.assert_close(fuse_scores(TEXT, IMAGE, vocabulary(), 1 / 3, 2 / 3), torch.tensor(expected))


def test_f_vlms_weights_by_hand():
    expected = [[0.6**0.8 * 0.1**0.2, 0.2**0.55 * 0.7**0.45, 0.001**0.8 * 0.2**0.2], [0.0, 0.0, 0.5**0.8]]
    torch.testing.assert_close(fuse_scores(TEXT, IMAGE, vocabulary(), 0.2, 0.45), torch.tensor(expected))


def test_weights_at_the_ends_are_one_opinion_alone():
    assert torch.equal(fuse_scores(TEXT, IMAGE, vocabulary(), 0, 0), TEXT)
    assert torch.equal(fuse_scores(TEXT, IMAGE, vocabulary(), 1, 1), IMAGE)
    mixed = fuse_scores(TEXT, IMAGE, vocabulary(), 0, 1)
    assert torch.equal(mixed[:, 1], IMAGE[:, 1]) and torch.equal(mixed[:, ::2], TEXT[:, ::2])


def test_without_flags_every_class_gets_the_mean_weight():
    plain = Vocabulary.from_names(["a", "b", "c"])
    expected = (TEXT * IMAGE).sqrt()
    torch.testing.assert_close(fuse_scores(TEXT, IMAGE, plain, 1 / 3, 2 / 3), expected)


def test_no_regions():
    assert fuse_scores(TEXT[:0], IMAGE[:0], vocabulary(), 1 / 3, 2 / 3).shape == (0, 3)


@pytest.mark.parametrize("weights", [(-0.1, 0.5), (0.5, 1.1), (float("nan"), 0.5)])
def test_weights_outside_0_to_1_are_named(weights):
    with pytest.raises(ValueError, match="_weight: expected 0..1"):
        fuse_scores(TEXT, IMAGE, vocabulary(), *weights)
