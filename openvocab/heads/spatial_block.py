"""LSeg's optional spatial regularization of the class maps (arXiv 2201.03546, section 4.3)."""

import torch.nn.functional as F
from torch import Tensor, nn

from openvocab.argument_checks import check_choice, check_number

KINDS = ("bottleneck", "depthwise")
ACTIVATIONS = {"lrelu": F.leaky_relu, "tanh": F.tanh, "relu": F.relu}


def check_spatial_block(kind: str | None, depth: int, activation: str) -> None:
    """Check the arguments of a `SpatialBlock`; `kind` may be None, for no block.

    Raises:
        ValueError: an unknown kind or activation, or a depth that is no whole number or is negative.
    """
    check_choice("spatial_block.kind", kind, (*KINDS, None))
    check_number("spatial_block.depth", depth, 0, whole=True)
    check_choice("spatial_block.activation", activation, ACTIVATIONS)


class SpatialBlock(nn.Module):
    """Smooth every class map with one shared 3x3 convolution: equivariant to the order of any number of classes.

    Args:
        kind: `depthwise`, or `bottleneck`, which also adds the maximum of its input over the classes to each map.
        depth: how often the block is applied, with the same weights; the activation follows every application but the
            last. As in the official code, depth 0 still applies it once.
        activation: `lrelu`, `tanh` or `relu`.

    Raises:
        ValueError: an unknown kind or activation, or a negative depth.
    """

    def __init__(self, kind: str, depth: int = 1, activation: str = "lrelu") -> None:
        super().__init__()
        check_choice("spatial_block.kind", kind, KINDS)
        check_spatial_block(kind, depth, activation)
        self.kind = kind
        self.depth = depth
        self.activation = ACTIVATIONS[activation]
        self.conv = nn.Conv2d(1, 1, 3, padding=1)  # one input and one output channel: every class map by itself

    def forward(self, logits: Tensor) -> Tensor:
        """Map logits (B, K, h, w) to logits of the same shape and type, whatever the type of the weights."""
        for _ in range(self.depth - 1):
            logits = self.activation(self._apply_once(logits))
        return self._apply_once(logits)

    def _apply_once(self, logits: Tensor) -> Tensor:
        weight, bias = self.conv.weight.to(logits.dtype), self.conv.bias
        bias = None if bias is None else bias.to(logits.dtype)
        # (B * K, 1, h, w): each class is an image of one channel, so that one kernel serves any number
        smooth = F.conv2d(logits.flatten(0, 1)[:, None], weight, bias, padding=1).view(logits.shape)  # (B, K, h, w)
        if self.kind == "depthwise":
            return smooth
        return smooth + logits.amax(dim=1, keepdim=True)  # (B, K, h, w)
