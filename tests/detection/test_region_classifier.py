"""Regions against texts and a learned background, and the loss where some classes have no labels."""

import math

import pytest
import torch
import torch.nn.functional as F
from detection_parts import TEXT_DIM, make_text

from openvocab.detection.region_classifier import RegionClassifier, region_class_loss
from openvocab.structures import TextFeatures
from openvocab.vocabulary.vocabulary import Vocabulary

PLAIN = Vocabulary.from_names(["a", "b", "c"])
B_UNSEEN = Vocabulary.from_names(["a", "b", "c"], unseen=["b"])


def make_classifier(**arguments) -> RegionClassifier:
    torch.manual_seed(0)
    return RegionClassifier(7, TEXT_DIM, **arguments)


def test_logits_are_cosines_over_the_temperature_with_the_background_last():
    classifier, text, regions = make_classifier(temperature=0.02), make_text(4), torch.randn(5, 7)
    embed = classifier.embed(regions)
    logits = classifier.logits(embed, text)
    projected = regions @ classifier.project.weight.T + classifier.project.bias
    rows = [*text.embed, classifier.background]
    expected = torch.stack([F.cosine_similarity(projected, row[None]) for row in rows], dim=1) / 0.02
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(embed.norm(dim=1), torch.ones(5))


def test_the_length_of_the_background_does_not_matter():
    classifier, text, regions = make_classifier(), make_text(4), torch.randn(5, 7)
    before = classifier.logits(classifier.embed(regions), text)
    with torch.no_grad():
        classifier.background.mul_(37)
    torch.testing.assert_close(classifier.logits(classifier.embed(regions), text), before)


def test_without_background_there_are_the_classes_only():
    classifier, text, regions = make_classifier(background=None), make_text(4), torch.randn(5, 7)
    assert classifier.logits(classifier.embed(regions), text).shape == (5, 4)
    assert not any("background" in name for name, _ in classifier.named_parameters())


def test_the_empty_text_stands_for_the_background_and_learns_nothing():
    classifier, text, regions = (
        make_classifier(background="empty text", temperature=0.5),
        make_text(4),
        torch.randn(5, 7),
    )
    embed = classifier.embed(regions)
    expected = torch.stack([F.cosine_similarity(embed, text.empty[None])], dim=1) / 0.5
    torch.testing.assert_close(classifier.logits(embed, text)[:, 4:], expected)
    assert not any("background" in name for name, _ in classifier.named_parameters())


def test_the_best_synonym_speaks_for_its_class():
    classifier, text = make_classifier(), make_text(4)
    competing = TextFeatures(text.embed, text.logit_scale, row_class=torch.tensor([0, 0, 1, 2]))
    embed = classifier.embed(torch.randn(5, 7))
    rows, merged = classifier.logits(embed, text), classifier.logits(embed, competing)
    expected = torch.cat([rows[:, :2].amax(1, keepdim=True), rows[:, 2:]], dim=1)
    torch.testing.assert_close(merged, expected)


def test_new_names_change_the_columns_only():
    classifier, text = make_classifier(), make_text(6)
    embed = classifier.embed(torch.randn(5, 7))
    order = [4, 1]
    some = classifier.logits(embed, TextFeatures(text.embed[order], text.logit_scale))
    torch.testing.assert_close(some, classifier.logits(embed, text)[:, [*order, 6]])


def test_embeddings_and_logits_under_autocast_are_float32():
    classifier, text, regions = make_classifier(), make_text(4), torch.randn(5, 7)
    with torch.autocast("cpu", torch.bfloat16):
        embed = classifier.embed(regions)
        logits = classifier.logits(embed, text)
    assert embed.dtype == logits.dtype == torch.float32
    torch.testing.assert_close(embed.norm(dim=1), torch.ones(5), atol=1e-5, rtol=0)
    torch.testing.assert_close(logits, classifier.logits(embed, text))  # a cosine is not rounded to 1/256


@pytest.mark.parametrize("temperature", [0, -1, 0.0])
def test_a_temperature_that_is_not_positive_is_named(temperature):
    with pytest.raises(ValueError, match="temperature: expected more than 0"):
        make_classifier(temperature=temperature)


def test_loss_by_hand():
    logits = torch.tensor([[2.0, 0.0, 1.0, 3.0], [0.0, 0.0, 0.0, 0.0]])
    first = math.log(math.exp(2) + 1 + math.exp(1) + math.exp(3)) - 2
    second = math.log(4)
    loss = region_class_loss(logits, torch.tensor([0, -1]), PLAIN)  # class a, and background
    assert loss.item() == pytest.approx((first + second) / 2, rel=1e-6)


def test_unseen_classes_leave_the_softmax_or_stay_at_zero():
    """With negative cosines a logit of 0 wins the softmax: there official ViLD's mask costs more than 2 nats."""
    logits = torch.tensor([[-3.0, 9.0, -4.0, -2.5]])
    label = torch.tensor([0])
    out = math.log(math.exp(-3) + math.exp(-4) + math.exp(-2.5)) + 3
    at_zero = math.log(math.exp(-3) + 1 + math.exp(-4) + math.exp(-2.5)) + 3
    assert region_class_loss(logits, label, B_UNSEEN).item() == pytest.approx(out, rel=1e-6)
    assert region_class_loss(logits, label, B_UNSEEN, "zero").item() == pytest.approx(at_zero, rel=1e-6)
    assert at_zero - out > 2
    high = logits + 30  # what CLIP's cosines are like: 25 and more over the temperature
    difference = region_class_loss(high, label, B_UNSEEN, "zero") - region_class_loss(high, label, B_UNSEEN)
    assert abs(difference) < 1e-5


@pytest.mark.parametrize("unseen_logits", ["minus infinity", "zero"])
def test_unseen_classes_are_not_pushed_away(unseen_logits):
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    region_class_loss(logits, torch.tensor([0, 2, -1, 0, 2, -1]), B_UNSEEN, unseen_logits).backward()
    assert torch.equal(logits.grad[:, 1], torch.zeros(6)) and logits.grad[:, [0, 2, 3]].abs().min() > 0
    assert logits.grad.isfinite().all()


def test_classes_that_nobody_marked_are_all_seen():
    logits, classes = torch.randn(3, 4), torch.tensor([1, -1, 0])
    everything = Vocabulary.from_names(["a", "b", "c"], unseen=[])
    assert region_class_loss(logits, classes, PLAIN) == region_class_loss(logits, classes, everything)


def test_the_loss_of_background_regions_is_weighted_and_the_mean_stays_over_all_regions():
    logits = torch.tensor([[2.0, 0.0, 1.0, 3.0], [0.0, 0.0, 0.0, 0.0]])
    first = math.log(math.exp(2) + 1 + math.exp(1) + math.exp(3)) - 2
    loss = region_class_loss(logits, torch.tensor([0, -1]), PLAIN, background_weight=0.9)
    assert loss.item() == pytest.approx((first + 0.9 * math.log(4)) / 2, rel=1e-6)


def test_no_regions_give_no_loss_and_a_defined_gradient():
    logits = torch.zeros(0, 4, requires_grad=True)
    loss = region_class_loss(logits, torch.zeros(0, dtype=torch.int64), B_UNSEEN)
    loss.backward()
    assert loss == 0 and logits.grad.shape == (0, 4)
