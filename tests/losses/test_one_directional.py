"""One direction of InfoNCE: two of them are the symmetric loss."""

import pytest
import torch
import torch.nn.functional as F
from embeds import as_double, assert_same_value_and_gradients, random_rows

from openvocab.losses import decoupled_info_nce, info_nce, one_directional_info_nce


@pytest.mark.parametrize("chunk_size", [1, 5, 64])
def test_equals_the_cross_entropy_of_the_full_matrix(chunk_size: int):
    leaves = [random_rows(11, 6), random_rows(11, 6, seed=1), torch.tensor(20.0, requires_grad=True)]
    exact = as_double(leaves)
    expected = F.cross_entropy(exact[2] * exact[0] @ exact[1].T, torch.arange(11))
    loss = one_directional_info_nce(*leaves, chunk_size=chunk_size)
    assert_same_value_and_gradients(loss, leaves, expected, exact)


@pytest.mark.parametrize(("decoupled", "symmetric"), [(False, info_nce), (True, decoupled_info_nce)])
def test_both_directions_average_to_the_symmetric_loss(decoupled, symmetric):
    images, texts, scale = random_rows(11, 6), random_rows(11, 6, seed=1), torch.tensor(20.0)
    ways = [one_directional_info_nce(*pair, scale, decoupled=decoupled) for pair in ((images, texts), (texts, images))]
    torch.testing.assert_close((ways[0] + ways[1]) / 2, symmetric(images, texts, scale))


def test_refuses_shapes_that_differ_and_a_batch_of_one():
    with pytest.raises(ValueError, match="one shape"):
        one_directional_info_nce(torch.ones(2, 3), torch.ones(2, 4), torch.tensor(1.0))
    with pytest.raises(ValueError, match="at least two"):
        one_directional_info_nce(torch.ones(1, 3), torch.ones(1, 3), torch.tensor(1.0))
