"""Differences between our results and the peer's."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def relative_error(expected: Tensor, got: Tensor) -> float:
    """Return the norm of the difference divided by the norm of `expected`; both of any one shape."""
    expected, got = expected.detach().cpu().double(), got.detach().cpu().double()
    return float((got - expected).norm() / expected.norm())


def largest_relative_error(expected: Sequence[Tensor], got: Sequence[Tensor]) -> float:
    """Return the largest of the relative errors of several tensors."""
    return max(relative_error(*pair) for pair in zip(expected, got, strict=True))


def label_disagreement(expected: Tensor | np.ndarray, got: Tensor | np.ndarray) -> float:
    """Return the fraction of pixels whose labels differ; both are (H, W), with leading dimensions of 1 allowed."""
    expected, got = torch.as_tensor(expected).cpu().squeeze(), torch.as_tensor(got).cpu().squeeze()
    return float((expected.long() != got.long()).double().mean())
