"""Decoupled InfoNCE against its definition pair by pair in float64."""

import math

import pytest
import torch
from embeds import as_double, assert_same_value_and_gradients, random_rows

from openvocab.losses import decoupled_info_nce


def pair_by_pair(images, texts, scale):
    """-s_ii + log of the sum over the others, both ways, averaged; with Python loops."""
    logits = scale * images @ texts.T
    count, total = len(logits), 0
    for i in range(count):
        others = [j for j in range(count) if j != i]
        row = torch.stack([logits[i, j] for j in others]).exp().sum().log()
        column = torch.stack([logits[j, i] for j in others]).exp().sum().log()
        total = total + (row + column) / 2 - logits[i, i]
    return total / count


@pytest.mark.parametrize("chunk_size", [1, 4, 64])
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_equals_the_definition(chunk_size: int, scale: float):
    leaves = [random_rows(9, 6), random_rows(9, 6, seed=1), torch.tensor(scale, requires_grad=True)]
    exact = as_double(leaves)
    loss = decoupled_info_nce(*leaves, chunk_size=chunk_size)
    assert_same_value_and_gradients(loss, leaves, pair_by_pair(*exact), exact, rel=1e-4)


def test_two_pairs_leave_one_wrong_pair_in_each_denominator():
    images, texts = torch.eye(2), torch.eye(2)
    assert decoupled_info_nce(images, texts, torch.tensor(3.0), chunk_size=1).item() == pytest.approx(-3.0)


def test_a_perfect_pair_still_pulls():
    images, texts = torch.eye(8).requires_grad_(), torch.eye(8)
    decoupled_info_nce(images, texts, torch.tensor(100.0)).backward()
    assert images.grad.diagonal().abs().min() > 1  # InfoNCE's gradient vanishes here
    assert math.isfinite(images.grad.sum().item())


def test_gradients_pass_gradcheck():
    leaves = [random_rows(5, 3, dtype=torch.float64), random_rows(5, 3, seed=1, dtype=torch.float64)]
    scale = torch.tensor(4.0, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *x: decoupled_info_nce(*x, chunk_size=2), [*leaves, scale])


def test_a_batch_of_one_is_refused():
    with pytest.raises(ValueError, match="at least two"):
        decoupled_info_nce(torch.ones(1, 4), torch.ones(1, 4), torch.tensor(1.0))
