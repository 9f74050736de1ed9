"""Tokens of objects and scores of classes: by hand, and in loops over phrases."""

import pytest
import torch
from glip_reference import MODELS, expected, needs_reference

from openvocab.detection.phrase_scores import class_scores, object_tokens

PHRASES = torch.tensor([[0, 1, 0, 0, 0, 0], [0, 0, 0, 1, 1, 1], [0, 1, 1, 0, 0, 0]]).bool()
OWNERS = torch.tensor([7, 2, 7])


@needs_reference
@pytest.mark.parametrize("model", MODELS)
def test_official_targets_are_the_whole_phrase(model):
    phrases, targets = expected(f"{model}_positive_map"), expected(f"{model}_positive_tokens")
    tokens = object_tokens(torch.arange(3), phrases, torch.arange(3), "image")
    assert {tuple(row) for row in targets.tolist()} == {tuple(row) for row in tokens.float().tolist()}


def test_an_object_has_the_tokens_of_all_phrases_of_its_class():
    tokens = object_tokens(torch.tensor([2, 7, 2]), PHRASES, OWNERS, "image")
    assert tokens.int().tolist() == [[0, 0, 0, 1, 1, 1], [0, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]]


def test_an_image_without_objects_has_no_targets():
    assert object_tokens(torch.zeros(0, dtype=torch.int64), PHRASES, OWNERS, "image").shape == (0, 6)


@pytest.mark.parametrize("phrases", [PHRASES, torch.zeros_like(PHRASES)])
def test_an_object_that_no_phrase_names_is_an_error_of_its_sample(phrases):
    with pytest.raises(ValueError, match=r"sample 'street.jpg': objects of the classes \[.*\] are labeled, but no"):
        object_tokens(torch.tensor([2, 4]), phrases, OWNERS, "street.jpg")


@pytest.mark.parametrize("phrase_score", ["mean", "max"])
def test_class_scores_equal_loops_over_phrases(phrase_score):
    scores = torch.rand(30, 20, generator=torch.Generator().manual_seed(0))
    phrases = torch.rand(9, 20, generator=torch.Generator().manual_seed(1)) < 0.2
    phrases[:, 3] |= ~phrases.any(dim=1)
    owners = torch.tensor([4, 0, 4, 9, 4, 0, 8, 3, 5])
    classes, got = class_scores(scores, phrases, owners, phrase_score)
    assert classes.tolist() == [0, 3, 4, 5, 8, 9]
    for location in range(30):
        for column, label in enumerate(classes.tolist()):
            of_phrases = []
            for phrase, owner in zip(phrases, owners.tolist()):
                of_tokens = [scores[location, t].item() for t in range(20) if phrase[t]]
                if owner == label:
                    of_phrases.append(max(of_tokens) if phrase_score == "max" else sum(of_tokens) / len(of_tokens))
            assert got[location, column].item() == pytest.approx(max(of_phrases), abs=1e-6)


def test_tokens_outside_of_phrases_are_not_read():
    scores = torch.rand(4, 6)
    changed = scores.masked_fill(~PHRASES.any(dim=0), 0.9)
    for got, other in zip(class_scores(scores, PHRASES, OWNERS), class_scores(changed, PHRASES, OWNERS)):
        assert torch.equal(got, other)


def test_a_phrase_without_tokens_has_no_score():
    classes, scores = class_scores(torch.ones(2, 6), PHRASES & torch.tensor([[1], [0], [1]]).bool(), OWNERS)
    assert classes.tolist() == [2, 7]
    assert scores.tolist() == [[0, 1], [0, 1]]


def test_an_unknown_score_is_named():
    with pytest.raises(ValueError, match="phrase_score: expected one of mean, max, got 'power'"):
        class_scores(torch.ones(2, 6), PHRASES, OWNERS, "power")
