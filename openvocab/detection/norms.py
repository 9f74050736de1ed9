"""The normalizations of detection heads, by name."""

from collections.abc import Callable
from functools import partial

from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from openvocab.argument_checks import check_choice
from openvocab.layers.resnet_style import TENSORFLOW_BATCH_NORM

GROUPS = 32
NORMS: dict[str | None, Callable[[int], nn.Module] | None] = {
    None: None,
    "batch": nn.BatchNorm2d,
    "slow_batch": partial(nn.BatchNorm2d, eps=TENSORFLOW_BATCH_NORM["eps"], momentum=TENSORFLOW_BATCH_NORM["momentum"]),
    "frozen_batch": FrozenBatchNorm2d,
    "group": lambda dim: nn.GroupNorm(min(GROUPS, dim), dim),
    "layer": partial(nn.GroupNorm, 1),
}


def norm_layer(name: str | None) -> Callable[[int], nn.Module] | None:
    """Return the function that builds a normalization of a number of channels, or None without a name.

    Args:
        name: "batch" (synchronized over ranks by the config's `sync_bn`), "slow_batch" (the same with the slow
            statistics of `TENSORFLOW_BATCH_NORM`), "frozen_batch", "group" (32 groups), "layer", or None.

    Raises:
        ValueError: another name.
    """
    check_choice("norm", name, NORMS)
    return NORMS[name]
