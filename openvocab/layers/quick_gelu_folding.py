"""QuickGELU as SiLU between scaled linear layers, for prediction."""

import sys

from torch import Tensor, nn

STEEPNESS = 1.702
"""Of x * sigmoid(1.702 x)."""
FEED_FORWARDS = (("c_fc", "gelu", "c_proj"), ("fc1", "act", "fc2"))
"""What open_clip and timm call the parts of the feed-forward half of a block."""
HOMES = ("open_clip.transformer", "timm.layers.activations", "timm.layers.mlp")
"""Modules that define `QuickGELU` and `Mlp`."""


def fold_quick_gelu(part: nn.Module) -> None:
    """Replace QuickGELU in feed-forward layers by SiLU, one fused pass over memory for three and two temporaries.

    x sigmoid(1.702 x) = silu(1.702 x) / 1.702, and both factors go into the linear layers around it. Results are equal
    up to rounding. The layers get new weights; those of the given ones, which others may hold, are not written to.

    Args:
        part: is changed; its weights no longer fit a checkpoint.
    """
    activations, mlps = _classes("QuickGELU"), _classes("Mlp")
    for module in part.modules():
        for first, activation, second in FEED_FORWARDS:
            quick = isinstance(getattr(module, activation, None), activations)
            if quick and _is_plain(module, mlps, first, second):
                before, after = getattr(module, first), getattr(module, second)
                bias = None if before.bias is None else STEEPNESS * before.bias
                setattr(module, first, linear_of(STEEPNESS * before.weight, bias))
                setattr(module, second, linear_of(after.weight / STEEPNESS, after.bias))
                setattr(module, activation, nn.SiLU(inplace=True))


def linear_of(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """Return a frozen layer with these weights (out, in) and bias (out,)."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return layer


def _classes(name: str) -> tuple[type, ...]:
    """Return open_clip's and timm's classes of that name; a model holds none whose library it has not loaded."""
    homes = [sys.modules.get(home) for home in HOMES]
    return tuple(getattr(home, name) for home in homes if hasattr(home, name))


def _is_plain(module: nn.Module, mlps: tuple[type, ...], first: str, second: str) -> bool:
    """Say whether nothing but the activation lies between two linear layers."""
    known = type(module) is nn.Sequential or (type(module) in mlps and isinstance(module.norm, nn.Identity))
    return known and all(isinstance(getattr(module, name, None), nn.Linear) for name in (first, second))
