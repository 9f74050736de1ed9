"""The rules by which two opinions become one score."""

import pytest
import torch

from openvocab.detection.score_fusion import fuse_scores, fuse_with_background, image_weights
from openvocab.vocabulary.vocabulary import Vocabulary

TEXT = torch.tensor([[0.6, 0.2, 0.001], [0.0, 1.0, 0.5]])
IMAGE = torch.tensor([[0.1, 0.7, 0.2], [0.3, 0.0, 1.0]])


def weights(base: float, novel: float, unknown: float = 0.5, unseen=("b",)) -> torch.Tensor:
    return image_weights(Vocabulary.from_names(["a", "b", "c"], unseen=unseen), base, novel, unknown)


def test_vilds_rule_by_hand():
    expected = [
        [(0.6**2 * 0.1) ** (1 / 3), (0.2 * 0.7**2) ** (1 / 3), (0.001**2 * 0.2) ** (1 / 3)],
        [0.0, 0.0, (0.5**2 * 1.0) ** (1 / 3)],
    ]
    torch.testing.assert_close(fuse_scores(TEXT, IMAGE, weights(1 / 3, 2 / 3)), torch.tensor(expected))


def test_f_vlms_weights_by_hand():
    expected = [[0.6**0.8 * 0.1**0.2, 0.2**0.55 * 0.7**0.45, 0.001**0.8 * 0.2**0.2], [0.0, 0.0, 0.5**0.8]]
    torch.testing.assert_close(fuse_scores(TEXT, IMAGE, weights(0.2, 0.45)), torch.tensor(expected))


def test_scores_normalized_with_the_background_by_hand():
    """The background of the labels keeps its score next to the fused ones, and a region's scores sum to 1."""
    text = torch.tensor([[0.5, 0.2, 0.1, 0.2], [0.25, 0.0, 0.25, 0.5]])
    fused = [0.5**0.8 * 0.1**0.2, 0.2**0.55 * 0.7**0.45, 0.1**0.8 * 0.2**0.2]
    other = [0.25**0.8 * 0.3**0.2, 0.0, 0.25**0.8]
    expected = [[each / (sum(fused) + 0.2) for each in fused], [each / (sum(other) + 0.5) for each in other]]
    torch.testing.assert_close(fuse_with_background(text, IMAGE, weights(0.2, 0.45)), torch.tensor(expected))


def test_weights_at_the_ends_are_one_opinion_alone():
    assert torch.equal(fuse_scores(TEXT, IMAGE, weights(0, 0)), TEXT)
    assert torch.equal(fuse_scores(TEXT, IMAGE, weights(1, 1)), IMAGE)
    mixed = fuse_scores(TEXT, IMAGE, weights(0, 1))
    assert torch.equal(mixed[:, 1], IMAGE[:, 1]) and torch.equal(mixed[:, ::2], TEXT[:, ::2])


def test_without_flags_every_class_gets_the_weight_for_unknown_ones():
    assert weights(0.2, 0.45, unknown=0.3, unseen=None).tolist() == pytest.approx([0.3] * 3)
    assert weights(0.2, 0.45, unknown=0.3).tolist() == pytest.approx([0.2, 0.45, 0.2])


def test_no_regions():
    assert fuse_scores(TEXT[:0], IMAGE[:0], weights(1 / 3, 2 / 3)).shape == (0, 3)
    assert fuse_with_background(torch.zeros(0, 4), IMAGE[:0], weights(1 / 3, 2 / 3)).shape == (0, 3)


@pytest.mark.parametrize("pair", [(-0.1, 0.5), (0.5, 1.1), (float("nan"), 0.5)])
def test_weights_outside_0_to_1_are_named(pair):
    with pytest.raises(ValueError, match="_weight: expected 0..1"):
        weights(*pair)
