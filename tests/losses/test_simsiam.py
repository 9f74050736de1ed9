"""SimSiam against the formula of the paper."""

import pytest
import torch
from embeds import random_rows

from openvocab.losses import simsiam


def test_is_the_mean_negative_cosine_both_ways():
    rows = [3 * random_rows(5, 4, seed=seed).double() for seed in range(4)]
    first_prediction, second_prediction, first_target, second_target = rows
    expected = 0.0
    for p, z in ((first_prediction, second_target), (second_prediction, first_target)):
        for i in range(5):
            expected -= (p[i] @ z[i]) / (p[i].norm() * z[i].norm()) / 5 / 2
    torch.testing.assert_close(simsiam(*rows), expected)


def test_targets_get_no_gradient():
    predictions = [random_rows(5, 4, seed=seed) for seed in (0, 1)]
    targets = [random_rows(5, 4, seed=seed) for seed in (2, 3)]
    simsiam(*predictions, *targets).backward()
    assert all(rows.grad is not None for rows in predictions)
    assert all(rows.grad is None for rows in targets)


def test_views_that_agree_reach_the_minimum():
    rows = random_rows(5, 4)
    assert simsiam(rows, rows, 2 * rows, 3 * rows).item() == pytest.approx(-1)


def test_half_precision_rows_of_any_length_stay_finite():
    rows = (random_rows(5, 4) * 1e4).half()
    assert simsiam(rows, rows, rows, rows).item() == pytest.approx(-1, abs=1e-3)


def test_refuses_shapes_that_differ():
    with pytest.raises(ValueError, match="one shape"):
        simsiam(torch.ones(2, 3), torch.ones(2, 3), torch.ones(2, 4), torch.ones(2, 3))
