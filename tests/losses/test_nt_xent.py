"""NT-Xent against SimCLR's formula, row by row in float64."""

import pytest
import torch
import torch.nn.functional as F
from embeds import as_double, assert_same_value_and_gradients, random_rows

from openvocab.losses import nt_xent


def row_by_row(first, second, temperature, normalize=True):
    """-log(exp(s_ij / t) / sum over k != i of exp(s_ik / t)), averaged over the 2N rows; with Python loops."""
    rows = torch.cat([first, second])
    rows = F.normalize(rows, dim=1) if normalize else rows
    count, losses = len(first), []
    for i in range(2 * count):
        logits = torch.stack([rows[i] @ rows[k] / temperature for k in range(2 * count) if k != i])
        positive = rows[i] @ rows[(i + count) % (2 * count)] / temperature
        losses.append(logits.logsumexp(0) - positive)
    return torch.stack(losses).mean()


@pytest.mark.parametrize("chunk_size", [1, 5, 64])
@pytest.mark.parametrize("length", [1.0, 7.0])
def test_equals_the_formula_and_ignores_the_length_of_rows(chunk_size: int, length: float):
    leaves = [(random_rows(7, 5, seed=seed) * length).detach().requires_grad_() for seed in (0, 1)]
    exact = as_double(leaves)
    assert_same_value_and_gradients(
        nt_xent(*leaves, 0.1, chunk_size=chunk_size), leaves, row_by_row(*exact, 0.1), exact, rel=1e-4
    )


def test_parity_with_xclip_leaves_the_length_of_rows():
    leaves = [(random_rows(7, 5, seed=seed) * 3).detach().requires_grad_() for seed in (0, 1)]
    exact = as_double(leaves)
    expected = row_by_row(*exact, 0.1, normalize=False)
    assert_same_value_and_gradients(nt_xent(*leaves, 0.1, parity="xclip"), leaves, expected, exact, rel=1e-4)


def test_batch_normed_rows_of_xclip_do_not_overflow():
    first, second = (random_rows(16, 128, seed=seed) * 128**0.5 for seed in (0, 1))
    with torch.autocast("cpu", torch.float16):
        loss = nt_xent(first.half(), second.half(), 0.1, parity="xclip")
    assert loss.isfinite() and loss.dtype == torch.float32


def test_is_symmetric_in_the_views_and_in_the_order_of_pairs():
    first, second = random_rows(9, 5), random_rows(9, 5, seed=1)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    loss = nt_xent(first, second)
    torch.testing.assert_close(nt_xent(second, first), loss)
    torch.testing.assert_close(nt_xent(first[order], second[order]), loss)


def test_equal_views_of_different_images_are_nearly_free():
    rows = torch.eye(6)
    assert nt_xent(rows, rows, 0.1).item() == pytest.approx(0.00045, rel=0.05)  # log(1 + 10 exp(-10))


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ((1, 4), {}, "at least two"),
        ((3, 4), {"temperature": 0.0}, "above 0"),
        ((3, 4), {"parity": "simclr"}, "'simclr'"),
    ],
)
def test_refuses_what_makes_no_sense(rows, options, message):
    with pytest.raises(ValueError, match=message):
        nt_xent(torch.ones(rows), torch.ones(rows), **options)
