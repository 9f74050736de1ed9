"""Random embeddings for the tests of losses."""

import torch
import torch.nn.functional as F
from torch import Tensor


def random_rows(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Unit-norm rows that want gradients."""
    rows = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return F.normalize(rows, dim=-1).to(dtype).requires_grad_()


def as_double(leaves: list[Tensor]) -> list[Tensor]:
    """Copies in float64."""
    return [leaf.detach().double().requires_grad_() for leaf in leaves]


def assert_same_value_and_gradients(
    loss: Tensor, leaves: list[Tensor], expected: Tensor, exact: list[Tensor], rel: float = 1e-5
) -> None:
    """Compare a loss and its gradients with a float64 reference."""
    torch.testing.assert_close(loss.double(), expected, rtol=rel, atol=1e-6)
    got, want = torch.autograd.grad(loss, leaves), torch.autograd.grad(expected, exact)
    for ours, true in zip(got, want):
        torch.testing.assert_close(ours.double(), true, rtol=10 * rel, atol=1e-6)
