"""Against numpy's argmax, which gives the first of equals."""

import pytest
import torch

from openvocab.ops.leading_argmax import leading_argmax_


@pytest.mark.parametrize("count", [1, 2, 150, 256, 257, 1000, 65_537])
def test_it_is_numpys_argmax(count):
    values = torch.randn(count, 37, generator=torch.Generator().manual_seed(count))
    expected = torch.from_numpy(values.numpy().argmax(0))
    assert leading_argmax_(values).equal(expected)


def test_of_equal_values_the_first_wins():
    values = torch.randint(0, 3, (300, 500), generator=torch.Generator().manual_seed(0)).float()
    expected = torch.from_numpy(values.numpy().argmax(0))
    assert leading_argmax_(values).equal(expected)


@pytest.mark.parametrize("precision", ["highest", "medium"])
def test_wide_numbers_survive_rounded_products(precision):
    """Bfloat16 holds no 8191; under autocast the product runs in it."""
    values = torch.zeros(8192, 4)
    values[[8191, 8190, 257, 0], [0, 1, 2, 3]] = 1
    torch.set_float32_matmul_precision(precision)
    try:
        with torch.autocast("cpu", torch.bfloat16):
            assert leading_argmax_(values).tolist() == [8191, 8190, 257, 0]
    finally:
        torch.set_float32_matmul_precision("highest")
