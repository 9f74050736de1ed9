"""Batch norms as part of the convolutions before them, for prediction."""

import logging

from torch import nn
from torch.fx.experimental.optimization import fuse
from torch.fx.proxy import TraceError

logger = logging.getLogger(__name__)


def fold_batch_norms(part: nn.Module) -> nn.Module:
    """Return a copy whose convolutions do what the batch norms behind them did, one pass over memory less for each.

    Results are equal up to rounding. A module whose code branches on its input cannot be traced and is returned as it
    is, which costs time only. The copy is for prediction: it has other entries in its state dict.

    Args:
        part: in eval mode.
    """
    if not any(type(norm) is nn.BatchNorm2d for norm in part.modules()):
        return part
    if any(module._forward_hooks or module._forward_pre_hooks for module in part.modules()):
        return part  # timm reads some towers by hooks, which a traced copy does not call
    try:
        return fuse(part)
    except (TraceError, RuntimeError) as error:  # the latter where a module cannot be copied
        logger.info(f"batch norms of {type(part).__name__} stay apart from their convolutions: {error}")
        return part
