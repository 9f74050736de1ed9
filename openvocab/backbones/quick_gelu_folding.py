"""QuickGELU as SiLU between scaled linear layers, for prediction."""

from open_clip.transformer import QuickGELU
from timm.layers import Mlp
from timm.layers.activations import QuickGELU as TimmQuickGELU
from torch import Tensor, nn

STEEPNESS = 1.702
"""Of x * sigmoid(1.702 x)."""
FEED_FORWARDS = (("c_fc", "gelu", "c_proj"), ("fc1", "act", "fc2"))
"""What open_clip and timm call the parts of the feed-forward half of a block."""


def fold_quick_gelu(part: nn.Module) -> None:
    """Replace QuickGELU in feed-forward layers by SiLU, one fused pass over memory for three and two temporaries.

    x sigmoid(1.702 x) = silu(1.702 x) / 1.702, and both factors go into the linear layers around it. Results are equal
    up to rounding. The layers get new weights; those of the given ones, which others may hold, are not written to.

    Args:
        part: is changed; its weights no longer fit a checkpoint.
    """
    for module in part.modules():
        for first, activation, second in FEED_FORWARDS:
            quick = isinstance(getattr(module, activation, None), (QuickGELU, TimmQuickGELU))
            if quick and _is_plain(module, first, second):
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


def _is_plain(module: nn.Module, first: str, second: str) -> bool:
    """Say whether nothing but the activation lies between two linear layers."""
    known = type(module) is nn.Sequential or (type(module) is Mlp and isinstance(module.norm, nn.Identity))
    return known and all(isinstance(getattr(module, name, None), nn.Linear) for name in (first, second))
