"""Activations that are computed again in the backward pass instead of being kept."""

from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def recompute(part: nn.Module, inputs: Any) -> Any:
    """Run a part of a tower, keeping only its input for the backward pass.

    Raises:
        ValueError: see `check_recomputable`.
    """
    if not torch.is_grad_enabled():
        return part(inputs)
    check_recomputable(part)
    return checkpoint(part, inputs, use_reentrant=False)


def check_recomputable(part: nn.Module) -> None:
    """Refuse batch norms in training mode: run twice a step, they would update their statistics twice.

    Raises:
        ValueError: there is one.
    """
    if any(norm.training for norm in part.modules() if isinstance(norm, nn.modules.batchnorm._BatchNorm)):
        raise ValueError(
            "checkpointing would update batch norms twice a step; set checkpointing=False, or norm_eval=True"
        )
