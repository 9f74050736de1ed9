"""Similarity regularization against loops over pairs in float64."""

import pytest
import torch
from embeds import as_double, assert_same_value_and_gradients, random_rows

from openvocab.losses import similarity_regularization


@pytest.mark.parametrize("chunk_size", [1, 4, 64])
def test_is_the_mean_square_difference_off_the_diagonal(chunk_size: int):
    leaves = [2 * random_rows(9, 6).detach(), random_rows(9, 4, seed=1)]  # longer rows: the diagonal would count
    leaves[0].requires_grad_()
    exact = as_double(leaves)
    pairs = [(i, j) for i in range(9) for j in range(9) if i != j]
    differences = [exact[0][i] @ exact[0][j] - exact[1][i] @ exact[1][j] for i, j in pairs]
    expected = torch.stack(differences).square().mean()
    loss = similarity_regularization(*leaves, chunk_size=chunk_size)
    assert_same_value_and_gradients(loss, leaves, expected, exact)


def test_is_zero_for_a_rotated_copy():
    images = random_rows(9, 6)
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(0)))[0]
    assert similarity_regularization(images, images @ rotation).item() == pytest.approx(0, abs=1e-10)


def test_refuses_other_counts_and_a_batch_of_one():
    with pytest.raises(ValueError, match="one pair per row"):
        similarity_regularization(torch.ones(2, 3), torch.ones(3, 3))
    with pytest.raises(ValueError, match="at least two"):
        similarity_regularization(torch.ones(1, 3), torch.ones(1, 3))
