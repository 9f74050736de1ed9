"""Folding batch norms into the convolutions before them, for prediction."""

import logging

from torch import nn
from torch.fx.experimental.optimization import fuse
from torch.fx.proxy import TraceError

logger = logging.getLogger(__name__)


def fold_batch_norms(part: nn.Module) -> nn.Module:
    """Return a copy whose batch norms are folded into their convolutions; saves one pass over memory for each.

    Results are equal up to rounding. The copy is for prediction only, since its state dict has different entries. A
    module whose code branches on its input cannot be traced; it is returned unchanged and stays slower.

    Args:
        part: a module in eval mode.
    """
    if not any(type(norm) is nn.BatchNorm2d for norm in part.modules()):
        return part
    if any(module._forward_hooks or module._forward_pre_hooks for module in part.modules()):
        return part  # timm reads some towers through hooks, which a traced copy would not call
    try:
        return fuse(part)
    except (TraceError, RuntimeError) as error:  # the latter if a module cannot be copied
        logger.info(f"batch norms of {type(part).__name__} are not folded into their convolutions: {error}")
        return part
