"""The sigmoid loss against binary cross entropy over the full matrix in float64, and against open_clip's."""

import pytest
import torch
import torch.nn.functional as F
from embeds import as_double, assert_same_value_and_gradients, random_rows
from open_clip.loss import SigLipLoss

from openvocab.losses import siglip


def make_leaves(count: int = 10, scale: float = 10.0, bias: float = -10.0):
    numbers = [torch.tensor(value, requires_grad=True) for value in (scale, bias)]
    return [random_rows(count, 6), random_rows(count, 6, seed=1), *numbers]


@pytest.mark.parametrize("chunk_size", [1, 4, 64])
def test_is_the_binary_cross_entropy_of_all_pairs(chunk_size: int):
    leaves = make_leaves()
    exact = as_double(leaves)
    logits = exact[2] * exact[0] @ exact[1].T + exact[3]
    expected = F.binary_cross_entropy(logits.sigmoid(), torch.eye(10).double(), reduction="sum") / 10
    assert_same_value_and_gradients(siglip(*leaves, chunk_size=chunk_size), leaves, expected, exact)


def test_equals_open_clip():
    leaves = make_leaves()
    torch.testing.assert_close(siglip(*leaves), SigLipLoss()(*leaves))


def test_shuffling_the_pairs_changes_nothing():
    images, texts, scale, bias = make_leaves()
    order = torch.randperm(10, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(siglip(images[order], texts[order], scale, bias), siglip(images, texts, scale, bias))


def test_stays_finite_where_a_sigmoid_would_round_to_zero():
    images, texts, _, _ = make_leaves(8)
    loss = siglip(images, -images.detach(), torch.tensor(1000.0), torch.tensor(0.0))
    (grad,) = torch.autograd.grad(loss, images)
    assert loss.isfinite() and grad.isfinite().all()


def test_computes_in_float32_under_autocast():
    leaves = make_leaves()
    with torch.autocast("cpu", torch.bfloat16):
        loss = siglip(*leaves)
    expected = siglip(*leaves)
    assert torch.equal(loss, expected)
    grads = torch.autograd.grad(loss, leaves)  # the chunks are made again as they were made, without autocast
    assert all(torch.equal(a, b) for a, b in zip(grads, torch.autograd.grad(expected, leaves)))


def test_refuses_shapes_that_differ_and_a_batch_of_one():
    with pytest.raises(ValueError, match="one shape"):
        siglip(torch.ones(2, 3), torch.ones(3, 3), torch.tensor(1.0), torch.tensor(0.0))
    with pytest.raises(ValueError, match="at least two"):
        siglip(torch.ones(1, 3), torch.ones(1, 3), torch.tensor(1.0), torch.tensor(0.0))
