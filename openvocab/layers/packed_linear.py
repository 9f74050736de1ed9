"""Linear layers with weights packed for oneDNN, for fast prediction on CPUs.

torch's own layer reorders the weights in every call, copies the bias into the result first, and applies the activation
in further passes over memory. Packed, the products of a ViT take 0.87 to 0.93 of the time in float32 and bfloat16,
and products of few rows 0.65. They follow the global precision of float32 products.
"""

import platform
from collections.abc import Callable
from functools import cache
from typing import Any, Literal

import torch
import torch.nn.functional as F
from timm.layers import Attention
from timm.models.eva import EvaAttention
from torch import Tensor, nn

from openvocab.layers.attention import attend
from openvocab.layers.quick_gelu_folding import FEED_FORWARDS, is_feed_forward, linear_of

Activation = Literal["none", "swish", "gelu"]
ACTIVATIONS = {"none": lambda x: x, "swish": F.silu, "gelu": F.gelu}
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
"""Largest error of a packed product, relative to the largest entry, at which packing is used."""


class PackedLinear(nn.Module):
    """A linear layer and the activation after it as one operation, for prediction.

    It packs its weights again when it is moved or cast, and computes as torch does if the processor cannot use packed
    weights.

    Args:
        linear: the layer to replace; its weights are copied if they are packed.
        activation: applied to the result.
    """

    bias: Tensor | None

    def __init__(self, linear: nn.Linear, activation: Activation = "none") -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.activation = activation
        bias = None if linear.bias is None else linear.bias.detach()
        self.register_buffer("bias", bias, persistent=False)
        self._set_weight(linear.weight.detach())

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features), in the dtype of the weights even under autocast.

        If the input requires a gradient, the unpacked weights are used: slower, but differentiable.
        """
        if not self._packed:
            return ACTIVATIONS[self.activation](F.linear(x, self._weight, self.bias))
        x = x.to(self._weight.dtype)  # autocast does not cover this operation, and the input may have its dtype
        if torch.is_grad_enabled() and x.requires_grad:  # the packed operation has no backward
            return ACTIVATIONS[self.activation](F.linear(x, self.weight, self.bias))
        return torch.ops.mkldnn._linear_pointwise(x, self._weight, self.bias, self.activation, [], "none")

    @property
    def weight(self) -> Tensor:
        """(out_features, in_features), an unpacked copy for inspection."""
        return self._weight.to_dense() if self._packed else self._weight

    def _set_weight(self, weight: Tensor) -> None:
        self._packed = weight.device.type == "cpu" and can_pack(weight.dtype)
        # Not a buffer: a packed weight has no storage that could be shared, saved or hashed.
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous()) if self._packed else weight

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "PackedLinear":
        super()._apply(fn, recurse)
        self._set_weight(fn(self.weight))
        return self

    def __getstate__(self) -> dict[str, Any]:
        # A packed weight has no storage to pickle or copy; the copy packs its own.
        return {**self.__dict__, "_weight": self.weight}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._set_weight(self._weight)

    def extra_repr(self) -> str:
        """Describe the layer for `repr`."""
        return f"{self.in_features} -> {self.out_features}, activation={self.activation}, packed={self._packed}"


class PackedSelfAttention(nn.Module):
    """Self-attention of a block with packed projections, for prediction.

    Args:
        in_proj: (C to 3 C) projection to q, k and v, concatenated in this order.
        out_proj: projection of the mixed values.
        num_heads: number of heads.
    """

    def __init__(self, in_proj: nn.Linear, out_proj: nn.Linear, num_heads: int) -> None:
        super().__init__()
        self.in_proj, self.out_proj = PackedLinear(in_proj), PackedLinear(out_proj)
        self.num_heads = num_heads

    def forward(self, tokens: Tensor, attn_mask: None = None, is_causal: Literal[False] = False) -> Tensor:
        """Attend over tokens (B, N, C) and return (B, N, C).

        Args:
            tokens: (B, N, C).
            attn_mask, is_causal: passed by timm's blocks; image towers leave them at their defaults.

        Raises:
            ValueError: a mask.
        """
        if attn_mask is not None or is_causal:
            raise ValueError("packed self-attention is for image towers: it takes no mask")
        # The layout of `nn.MultiheadAttention` and of timm's `qkv`: (B, N, 3 * C) -> three of (B, heads, N, d).
        q, k, v = self.in_proj(tokens).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        return self.out_proj(attend(q, k, v).transpose(1, 2).flatten(2))  # (B, N, C)


def pack_linears(part: nn.Module) -> None:
    """Pack all linear layers below `part` and fuse their activations, if the processor supports it.

    Args:
        part: changed in place, and only usable for prediction then. Its code must only call its linear layers, not
            read their weights; the attentions of open_clip and timm do read them, and are replaced.
    """
    weight = next(part.parameters(), None)
    if weight is not None and weight.device.type == "cpu" and can_pack(weight.dtype):
        _pack(part)


@cache
def can_pack(dtype: torch.dtype) -> bool:
    """Return whether packed products work for this dtype on this machine, by trying one."""
    supported = dtype in TOLERANCE and platform.machine() in ("x86_64", "AMD64")
    if not supported or not torch.backends.mkldnn.is_available():
        return False
    generator = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(shape, generator=generator).to(dtype) for shape in ((8, 64), (32, 64), (32,)))
    try:
        packed = torch.ops.mkldnn._reorder_linear_weight(weight)
        result = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "none")
        unpacked = packed.to_dense()
    except (AttributeError, NotImplementedError, RuntimeError, TypeError):  # a different build of torch, or no bfloat16
        return False
    # Compared in float64: the error of a float32 reference would count as one of the packed product.
    exact = F.linear(x.double(), weight.double(), bias.double())
    return bool((result - exact).abs().max() <= TOLERANCE[dtype] * exact.abs().max()) and unpacked.equal(weight)


def _pack(part: nn.Module) -> None:
    for name, child in part.named_children():
        attention = _packed_attention(child)
        if attention is not None:
            setattr(part, name, attention)
        elif type(child) is nn.Linear and not _reads_the_weight(part, name):
            setattr(part, name, PackedLinear(child))
        # An attention that stays reads the weight of its output projection, which must therefore not be packed.
        elif not isinstance(child, nn.MultiheadAttention):
            _pack(child)
    if is_feed_forward(part):
        _fuse_activation(part)


def _reads_the_weight(part: nn.Module, name: str) -> bool:
    """Return whether a module computes with the weight of a layer instead of calling it."""
    return isinstance(part, EvaAttention) and name == "qkv" and part.q_bias is not None


def _packed_attention(attention: nn.Module) -> PackedSelfAttention | None:
    """Return the replacement of a plain self-attention; None for every other module."""
    if isinstance(attention, nn.MultiheadAttention):
        if attention.in_proj_weight is None or attention.bias_k is not None or attention.add_zero_attn:
            return None
        in_proj = linear_of(attention.in_proj_weight, attention.in_proj_bias)
        return PackedSelfAttention(in_proj, attention.out_proj, attention.num_heads)
    if type(attention) is not Attention or attention.gate is not None:
        return None
    if any(not isinstance(norm, nn.Identity) for norm in (attention.q_norm, attention.k_norm, attention.norm)):
        return None
    return PackedSelfAttention(attention.qkv, attention.proj, attention.num_heads)


def _fuse_activation(part: nn.Module) -> None:
    """Move the activation of a feed-forward network into its first layer."""
    for first, activation, _ in FEED_FORWARDS:
        layer, function = getattr(part, first, None), getattr(part, activation, None)
        if not isinstance(layer, PackedLinear) or layer.activation != "none":
            continue
        if type(function) is nn.SiLU:
            layer.activation = "swish"
        # The fused activation is the exact GELU; the tanh approximation would give other values.
        elif type(function) is nn.GELU and function.approximate == "none":
            layer.activation = "gelu"
        else:
            continue
        setattr(part, activation, nn.Identity())
