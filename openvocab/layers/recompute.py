"""Activation checkpointing: activations are recomputed in the backward pass instead of being stored."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def recompute(part: Callable[[Any], Any], inputs: Any, draws: bool = True) -> Any:
    """Return `part(inputs)`, storing only `inputs` for the backward pass, which runs `part` again.

    Args:
        part: a module, or a function of tensors.
        inputs: its only argument.
        draws: whether it draws random numbers (dropout), which must be the same in both runs.

    Raises:
        ValueError: see `check_recomputable`.
    """
    if not torch.is_grad_enabled():
        return part(inputs)
    if isinstance(part, nn.Module):
        check_recomputable(part)
    # Saving the state of the random generators costs time in every call; skip it if nothing is drawn.
    return checkpoint(part, inputs, use_reentrant=False, preserve_rng_state=draws)


def check_recomputable(part: nn.Module) -> None:
    """Reject batch norms in training mode: run twice per step, they would update their statistics twice.

    Raises:
        ValueError: there is such a batch norm.
    """
    if any(norm.training for norm in part.modules() if isinstance(norm, nn.modules.batchnorm._BatchNorm)):
        raise ValueError(
            "checkpointing would update batch norms twice per step; set checkpointing=False, or norm_eval=True"
        )
