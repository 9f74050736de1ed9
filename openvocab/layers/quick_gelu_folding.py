"""Replacing QuickGELU by SiLU between rescaled linear layers, for prediction."""

import sys
from typing import Any

from torch import Tensor, nn

STEEPNESS = 1.702
"""The factor in QuickGELU(x) = x * sigmoid(1.702 x)."""
FEED_FORWARDS = (("c_fc", "gelu", "c_proj"), ("fc1", "act", "fc2"))
"""Names of the layers of a feed-forward network in open_clip and in timm: first linear, activation, second linear."""
ACTIVATION_MODULES = ("open_clip.transformer", "timm.layers.activations", "timm.layers.mlp")
"""Modules that define `QuickGELU` and `Mlp`."""


def fold_quick_gelu(part: nn.Module) -> None:
    """Replace QuickGELU in feed-forward halves by SiLU: one fused pass over memory instead of three.

    x sigmoid(1.702 x) = silu(1.702 x) / 1.702, and the two factors go into the linear layers before and after. Results
    are equal up to rounding. The layers get new weight tensors; the old ones, which other modules may share, are not
    written to.

    Args:
        part: changed in place; its weights no longer fit a checkpoint.
    """
    activations = _classes("QuickGELU")
    for module in part.modules():
        for first, activation, second in FEED_FORWARDS:
            quick = isinstance(getattr(module, activation, None), activations)
            if quick and _is_plain(module, first, second):
                linear1, linear2 = getattr(module, first), getattr(module, second)
                bias = None if linear1.bias is None else STEEPNESS * linear1.bias
                # The bias is scaled with the weight, since SiLU must see 1.702 times the whole sum.
                setattr(module, first, linear_of(STEEPNESS * linear1.weight, bias))
                # The second bias is added after the division and stays as it is.
                setattr(module, second, linear_of(linear2.weight / STEEPNESS, linear2.bias))
                setattr(module, activation, nn.SiLU(inplace=True))


def linear_of(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """Return a frozen layer with these weights (out, in) and bias (out,)."""
    # On the meta device, so that no weights are allocated and initialized only to be replaced.
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return layer


def _classes(name: str) -> tuple[type, ...]:
    """Return the classes of this name in open_clip and timm, if they are imported; else no model can contain them."""
    modules = [sys.modules.get(module) for module in ACTIVATION_MODULES]
    return tuple(getattr(module, name) for module in modules if hasattr(module, name))


def is_feed_forward(module: nn.Module) -> bool:
    """Return whether a module applies an activation to all that its first layer returns; a gated one does not."""
    return type(module) is nn.Sequential or type(module) in _classes("Mlp")


def _is_plain(module: Any, first: str, second: str) -> bool:
    """Return whether there is nothing but the activation between two linear layers."""
    plain = is_feed_forward(module) and isinstance(getattr(module, "norm", None), (nn.Identity, type(None)))
    return plain and all(isinstance(getattr(module, name, None), nn.Linear) for name in (first, second))
