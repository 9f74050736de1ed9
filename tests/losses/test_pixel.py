"""Pixel losses against torch's own, with the full-size map written out."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from openvocab.losses.pixel import check_labels, pixel_cross_entropy, sampled_cross_entropy, upsampled_cross_entropy
from openvocab.ops import upsampled_cross_entropy as strips
from openvocab.structures import Sample
from openvocab.vocabulary.vocabulary import Vocabulary


def reference(logits: Tensor, labels: Tensor, align_corners: bool) -> Tensor:
    full = F.interpolate(logits, size=labels.shape[-2:], mode="bilinear", align_corners=align_corners)
    scores = full.log_softmax(1).gather(1, labels.clamp(max=logits.shape[1] - 1)[:, None])[:, 0]
    kept = labels != 255
    return -(scores * kept).sum() / kept.sum()


def make_case(grid=(5, 7), size=(20, 41), classes: int = 6) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    logits = (3 * torch.randn(2, classes, *grid)).requires_grad_()
    labels = torch.randint(0, classes, (2, *size))
    labels[0, :3] = 255
    return logits, labels


@pytest.mark.parametrize("values", [1, 1000, 10**8], ids=["one row", "few rows", "whole"])
@pytest.mark.parametrize("grid", [(5, 7), (1, 4), (20, 3), (33, 50)], ids=str)
@pytest.mark.parametrize("align_corners", [True, False])
def test_stripwise_loss_and_gradient_equal_the_full_map(monkeypatch, align_corners, grid, values):
    monkeypatch.setitem(strips.VALUES_PER_STRIP, "cpu", values)
    logits, labels = make_case(grid)
    expected = reference(logits, labels, align_corners)
    loss = upsampled_cross_entropy(logits, labels, align_corners)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)
    (gradient,) = torch.autograd.grad(3 * loss, logits)
    (wanted,) = torch.autograd.grad(3 * expected, logits)
    torch.testing.assert_close(gradient, wanted, rtol=1e-5, atol=1e-7)


def test_equal_sizes_need_no_upsampling():
    logits, labels = make_case((20, 41))
    torch.testing.assert_close(upsampled_cross_entropy(logits, labels), pixel_cross_entropy(logits, labels))
    expected = F.cross_entropy(logits, labels, ignore_index=255)
    torch.testing.assert_close(pixel_cross_entropy(logits, labels), expected)


@pytest.mark.parametrize("grid", [(5, 7), (20, 41)])
def test_a_batch_without_labels_gives_zero_with_a_gradient(grid):
    logits, labels = make_case(grid)
    loss = upsampled_cross_entropy(logits, torch.full_like(labels, 255))
    loss.backward()
    assert loss == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("grid", [(5, 7), (20, 41)])
def test_the_loss_is_float32_under_autocast_and_for_half_logits(grid):
    logits, labels = make_case(grid)
    exact = upsampled_cross_entropy(logits, labels)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(upsampled_cross_entropy(logits, labels), exact)
        assert upsampled_cross_entropy(logits.bfloat16(), labels).dtype == torch.float32


@pytest.mark.parametrize("grid", [(5, 7), (1, 4), (20, 28), (10, 14)], ids=str)
@pytest.mark.parametrize("align_corners", [True, False])
def test_the_mean_over_all_samples_is_the_loss_at_full_size(align_corners, grid):
    size, labels = (20, 28), torch.randint(0, 6, (2, 20, 28))
    logits = (3 * torch.randn(2, 6, *grid)).requires_grad_()
    samples = {}
    for _ in range(2000):
        loss = sampled_cross_entropy(logits, labels, align_corners)
        samples.setdefault(loss.item(), loss)
    steps = [full // few for full, few in zip(size, grid)]  # 20 rows by 4, 28 columns by 4, ...
    assert len(samples) == steps[0] * steps[1]
    mean, expected = torch.stack(list(samples.values())).mean(), reference(logits, labels, align_corners)
    torch.testing.assert_close(mean, expected, rtol=1e-5, atol=1e-6)
    gradients = [torch.autograd.grad(loss, logits)[0] for loss in (mean, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-7)


def test_sampled_labels_may_be_missing_and_of_any_size():
    logits, labels = make_case((5, 7), (23, 16))
    labels[:] = 255
    loss = sampled_cross_entropy(logits, labels)
    loss.backward()
    assert loss == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))
    labels[:, :, 8:] = 3
    one_sided = torch.full_like(logits, -20.0)
    one_sided[:, 3] = 20.0
    assert sampled_cross_entropy(one_sided, labels, align_corners=True) < 1e-6
    with torch.autocast("cpu", torch.bfloat16):
        assert sampled_cross_entropy(logits.bfloat16(), labels).dtype == torch.float32


def test_no_gradient_is_formed_where_none_is_asked():
    logits, labels = make_case()
    with torch.no_grad():
        assert not upsampled_cross_entropy(logits, labels).requires_grad
    assert not upsampled_cross_entropy(logits.detach(), labels).requires_grad


def test_above_254_classes_the_label_255_is_a_class():
    logits = torch.randn(1, 300, 4, 4)
    labels = torch.full((1, 4, 4), 255)
    labels[0, 0] = 65535
    expected = F.cross_entropy(logits, labels, ignore_index=65535)
    torch.testing.assert_close(pixel_cross_entropy(logits, labels), expected)


def test_sizes_that_do_not_fit_are_named():
    logits, labels = make_case()
    with pytest.raises(ValueError, match=r"\(2, 6, 5, 7\).*\(2, 20, 41\)"):
        pixel_cross_entropy(logits, labels)
    with pytest.raises(ValueError, match="2 maps of logits, but 1"):
        upsampled_cross_entropy(logits, labels[:1])
    with pytest.raises(ValueError, match="2 maps of logits, but 1"):
        sampled_cross_entropy(logits, labels[:1])


@pytest.mark.parametrize("label", [2, 254, -1])
def test_check_labels_names_the_sample_and_the_label(label):
    vocabulary = Vocabulary.from_names(["cat", "dog"])
    good = Sample("good", vocabulary, (2, 2), (2, 2), label_map=torch.tensor([[0, 1], [255, 0]]))
    check_labels([good], 2)
    bad = Sample("bad", vocabulary, (2, 2), (2, 2), label_map=torch.tensor([[0, 1], [label, 0]]))
    with pytest.raises(ValueError, match=f"'bad' has label {label}, but its vocabulary has 2 classes"):
        check_labels([good, bad], 2)
