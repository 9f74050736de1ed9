"""LSeg's optional spatial regularization of the class maps (section 4.3 of arXiv 2201.03546)."""

import torch.nn.functional as F
from torch import Tensor, nn

from openvocab.argument_checks import check_choice

KINDS = ("bottleneck", "depthwise")
ACTIVATIONS = {"lrelu": F.leaky_relu, "tanh": F.tanh, "relu": F.relu}


class SpatialBlock(nn.Module):
    """Smooth every class map with one shared 3x3 convolution: equivariant to the order and number of classes.

    Args:
        kind: `depthwise`, or `bottleneck`, which also adds the maximum over the classes of its input to each map.
        depth: applications of the same weights; each but the last is followed by the activation. Official behavior:
            depth 0 still applies the block once.
        activation: `lrelu`, `tanh` or `relu`.

    Raises:
        ValueError: an unknown kind or activation, a negative depth.
    """

    def __init__(self, kind: str, depth: int = 1, activation: str = "lrelu") -> None:
        super().__init__()
        check_choice("block kind", kind, KINDS)
        check_choice("block activation", activation, ACTIVATIONS)
        if depth < 0:
            raise ValueError(f"block depth: expected 0 or more, got {depth}")
        self.kind = kind
        self.depth = depth
        self.activation = ACTIVATIONS[activation]
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, logits: Tensor) -> Tensor:
        """Map logits (B, K, h, w) to logits of the same shape, computed in their type whatever that of the weights."""
        for _ in range(self.depth - 1):
            logits = self.activation(self._once(logits))
        return self._once(logits)

    def _once(self, logits: Tensor) -> Tensor:
        weight, bias = self.conv.weight.to(logits.dtype), self.conv.bias.to(logits.dtype)  # logits stay float32
        smooth = F.conv2d(logits.flatten(0, 1)[:, None], weight, bias, padding=1).view(logits.shape)  # (B, K, h, w)
        if self.kind == "depthwise":
            return smooth
        return smooth + logits.amax(dim=1, keepdim=True)
