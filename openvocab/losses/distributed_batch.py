"""Joint batches over ranks: gathering rows, and scaling losses so that averaged gradients are those of one process."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable


def rank_count(gather: bool) -> int:
    """Return how many ranks share a loss: all of them with `gather`, else this one alone."""
    return dist.get_world_size() if gather and dist.is_available() and dist.is_initialized() else 1


def first_row(rows: int, ranks: int) -> int:
    """Return the index of this rank's first row in the joint batch, of `rows` rows per rank."""
    return dist.get_rank() * rows if ranks > 1 else 0


def gather_rows(tensor: Tensor, ranks: int) -> Tensor:
    """Concatenate (B, ...) of every rank to (ranks * B, ...), without a gradient; B is the same on every rank."""
    if ranks == 1:
        return tensor
    parts = [torch.empty_like(tensor) for _ in range(ranks)]
    dist.all_gather(parts, tensor.contiguous())
    return torch.cat(parts)


def gather_with_gradient(tensor: Tensor, ranks: int) -> Tensor:
    """Concatenate (B, ...) to (ranks * B, ...); the gradient of a row is the sum of its gradients on all ranks."""
    return tensor if ranks == 1 else _Gather.apply(tensor, ranks)


def joint_loss(share: Tensor, ranks: int) -> Tensor:
    """Return the sum of every rank's `share` (), with a gradient multiplied by the number of ranks.

    DistributedDataParallel averages parameter gradients, while the joint gradient is the sum of what the ranks
    contribute; with this factor its average is exactly the gradient of one process with the joint batch.
    """
    return share if ranks == 1 else _JointLoss.apply(share, ranks)


def joint_ratio(total: Tensor, count: Tensor, minimum: float, ranks: int) -> Tensor:
    """Return the sum of every rank's `total` () divided by the sum of every rank's `count` (), as `joint_loss` does.

    Args:
        total: () with a gradient.
        count: () without one.
        minimum: least count per rank.
        ranks: how many ranks share the loss; all of them must call it.
    """
    joint = count.detach().to(total, copy=True)
    if ranks > 1:
        dist.all_reduce(joint)
    return joint_loss(total / joint.clamp(min=minimum * ranks), ranks)


def check_joint_batch(rows: int, ranks: int, device: torch.device) -> None:
    """Check that all ranks have equally many rows, and that the joint batch has at least two.

    Raises:
        ValueError: ranks with different batch sizes, or a joint batch of one.
    """
    if ranks > 1:
        sizes = gather_rows(torch.tensor([rows], device=device), ranks).tolist()
        if len(set(sizes)) > 1:
            raise ValueError(f"all ranks need the same batch size to share their pairs, got {sizes}")
    if rows * ranks < 2:
        raise ValueError(
            "a contrastive loss needs at least two pairs, got a batch of one: there is nothing to tell it apart from; "
            "raise batch_size (and drop_last the remainder)"
        )


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, ranks: int) -> Tensor:
        ctx.first, ctx.rows = first_row(len(tensor), ranks), len(tensor)
        return gather_rows(tensor, ranks)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        # every rank has compared the row with its own ones: their gradients add up; a clone, as all_reduce overwrites
        grad = grad.contiguous().clone()
        dist.all_reduce(grad)  # not reduce-scatter, which older versions of gloo lack
        return grad[ctx.first : ctx.first + ctx.rows], None


class _JointLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, share: Tensor, ranks: int) -> Tensor:
        ctx.ranks = ranks
        # all_reduce overwrites its argument, which the graph may still need
        total = share.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad * ctx.ranks, None
