"""Loss and gradients of a large contrastive batch."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.comparison import Row, Sides
from benchmarks.errors import largest_relative_error
from openvocab.losses import info_nce


def prepare(pairs: int = 16_384, dim: int = 512, device: str = "cpu") -> Sides:
    """Compare with two cross entropies of the full matrix of logits."""
    torch.manual_seed(0)
    images, texts = (F.normalize(torch.randn(pairs, dim), dim=1).to(device).requires_grad_() for _ in range(2))
    scale = torch.tensor(100.0, device=device, requires_grad=True)
    inputs = (images, texts, scale)

    def peer() -> tuple[Tensor, ...]:
        logits, target = scale * images @ texts.T, torch.arange(pairs, device=device)
        loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        return loss.detach(), *torch.autograd.grad(loss, inputs)

    def ours() -> tuple[Tensor, ...]:
        loss = info_nce(images, texts, scale)
        return loss.detach(), *torch.autograd.grad(loss, inputs)

    return Sides(peer, ours, largest_relative_error)


ROWS = (
    Row("info_nce_16384", 1.1, partial(prepare), products="float32", repeats=3, memory=True, max_memory_ratio=0.1,
        note="error of the loss and of all gradients", on_cuda=True),
)  # fmt: skip
