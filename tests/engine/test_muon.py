"""Muon: orthogonal updates for matrices, AdamW for the rest."""

import pytest
import torch
from torch import nn

from openvocab.engine.muon import Muon, orthogonalize


@pytest.mark.parametrize("shape", [(8, 8), (6, 20), (20, 6)])
def test_orthogonalize_keeps_the_singular_vectors_and_evens_the_values(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, _, v = torch.linalg.svd(matrix, full_matrices=False)
    inner = u.T @ orthogonalize(matrix) @ v.T  # diagonal if the singular vectors are kept
    assert (inner - torch.diag(inner.diag())).abs().max() < 1e-4
    assert 0.4 < inner.diag().min() and inner.diag().max() < 1.3


def test_vectors_and_tables_follow_torchs_adamw_exactly():
    torch.manual_seed(0)
    ours = [nn.Parameter(torch.randn(5)), nn.Parameter(torch.randn(40, 3))]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    settings = dict(lr=0.01, weight_decay=0.1, betas=(0.9, 0.95), eps=1e-8)
    optimizers = Muon(ours, table_rows=40, **settings), torch.optim.AdamW(theirs, **settings)
    for _ in range(4):
        for ours_p, theirs_p in zip(ours, theirs):
            ours_p.grad = torch.randn_like(ours_p)
            theirs_p.grad = ours_p.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for ours_p, theirs_p in zip(ours, theirs):
        torch.testing.assert_close(ours_p, theirs_p)


def test_the_update_of_a_convolution_has_the_stated_size_and_decay():
    weight = nn.Parameter(torch.randn(16, 4, 3, 3, generator=torch.Generator().manual_seed(0)))
    before = weight.detach().clone()
    weight.grad = torch.randn(16, 4, 3, 3, generator=torch.Generator().manual_seed(1))
    Muon([weight], lr=0.1, weight_decay=0.5).step()
    update = (weight.detach() - before * (1 - 0.1 * 0.5)) / 0.1
    assert 0.1 < update.square().mean().sqrt() < 0.3


def test_state_survives_a_round_trip_bit_for_bit():
    def run(steps: int, resume_at: int | None) -> torch.Tensor:
        torch.manual_seed(0)
        layer = nn.Linear(6, 4)
        optimizer = Muon(layer.parameters(), lr=0.01)
        for step in range(steps):
            if step == resume_at:
                saved = optimizer.state_dict()
                optimizer = Muon(layer.parameters(), lr=0.01)
                optimizer.load_state_dict(saved)
            inputs = torch.randn(8, 6, generator=torch.Generator().manual_seed(step))
            optimizer.zero_grad()
            layer(inputs).square().mean().backward()
            optimizer.step()
        return layer.weight.detach()

    assert torch.equal(run(6, None), run(6, 3))


def test_a_negative_rate_is_refused():
    with pytest.raises(ValueError, match="lr"):
        Muon([nn.Parameter(torch.zeros(2))], lr=-1.0)
