"""The normalizations that detection heads choose from, by name."""

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
    "slow_batch": partial(nn.BatchNorm2d, **TENSORFLOW_BATCH_NORM),
    "frozen_batch": FrozenBatchNorm2d,
    "group": lambda dim: nn.GroupNorm(min(GROUPS, dim), dim),
    "layer": partial(nn.GroupNorm, 1),
}


def norm_layer(name: str | None) -> Callable[[int], nn.Module] | None:
    """Return the constructor (of a number of channels) of a normalization, None for none.

    Args:
        name: "batch" (over ranks with the config's `sync_bn`), "slow_batch" (the same with
            `TENSORFLOW_BATCH_NORM`), "frozen_batch", "group" (32 groups), "layer", or None.

    Raises:
        ValueError: another name.
    """
    check_choice("norm", name, NORMS)
    return NORMS[name]
