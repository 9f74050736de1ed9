"""Which parts of a tower are trained, and keeping frozen parts in eval mode."""

import logging
from collections.abc import Sequence

from torch import nn

logger = logging.getLogger(__name__)

Trainable = str | int
ATTENTION_NAMES = ("attn", "attnpool")


def set_trainable(
    tower: nn.Module, blocks: Sequence[nn.Module], trainable: Trainable, tail: Sequence[str] = ()
) -> None:
    """Set `requires_grad` of all parameters of a tower, and log how many are trained.

    Args:
        tower: the module whose parameters are set.
        blocks: its blocks in order.
        trainable: "none", "attention" (the attention weights of every block), "all", or n >= 1 (the last n blocks and
            everything after them).
        tail: name prefixes of the tower's parameters after the last block, such as final norm and projection.

    Raises:
        ValueError: an unknown value, n above the number of blocks, or "attention" for a tower without attention.
    """
    tower.requires_grad_(False)
    if trainable == "all":
        tower.requires_grad_(True)
    elif trainable == "attention":
        _train_attention(tower)
    elif isinstance(trainable, int) and not isinstance(trainable, bool) and 1 <= trainable <= len(blocks):
        for block in blocks[-trainable:]:
            block.requires_grad_(True)
        for name, parameter in tower.named_parameters():
            parameter.requires_grad_(parameter.requires_grad or name.startswith(tuple(tail)))
    elif trainable != "none":
        raise ValueError(
            f"trainable: expected 'none', 'attention', 'all' or a number of last blocks from 1 to {len(blocks)}, "
            f"got {trainable!r}"
        )
    trained = sum(parameter.numel() for parameter in tower.parameters() if parameter.requires_grad)
    total = sum(parameter.numel() for parameter in tower.parameters())
    logger.debug(
        f"{type(tower).__name__}: trainable={trainable!r}, {trained / 1e6:.2f} of {total / 1e6:.2f} M parameters"
    )


def set_mode(module: nn.Module, training: bool) -> None:
    """Call `module.train(training)`, but keep fully frozen submodules in eval mode (batch norm, dropout)."""
    module.train(training)  # some towers override it to do more than set a flag
    if training:
        _keep_frozen_parts_in_eval(module)


def _keep_frozen_parts_in_eval(module: nn.Module) -> None:
    parameters = list(module.parameters())
    # Fully frozen parts only: dropout between trained layers stays active.
    if parameters and not any(parameter.requires_grad for parameter in parameters):
        module.eval()
        return
    for child in module.children():
        _keep_frozen_parts_in_eval(child)


def freeze_batch_norms(module: nn.Module) -> None:
    """Put the batch norms of a module in eval mode, so that they keep their running statistics."""
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.eval()


def _train_attention(tower: nn.Module) -> None:
    attentions = [part for name, part in tower.named_modules() if name.rpartition(".")[2] in ATTENTION_NAMES]
    if not attentions:
        raise ValueError(
            f"trainable='attention': {type(tower).__name__} has no attention; use 'none', 'all' or a number"
        )
    for part in attentions:
        part.requires_grad_(True)
