"""Counting the floating-point operations of a call."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

BACKWARD_OVER_FORWARD = 2.5
"""The fused backward pass of attention makes five products where the forward pass makes two."""


def count_flops(work: Callable[[], Any]) -> tuple[Any, int]:
    """Run `work`; return its result and its operations, two per multiply-add, in products, convolutions, attention."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one opaque operation, which the counter does not know
    try:
        with FlopCounterMode(display=False, custom_mapping=CPU_OPERATIONS) as counter:
            result = work()
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
    return result, counter.get_total_flops()


def _forward(query: list[int], key: list[int], *others: Any, out_shape: Any = None, **options: Any) -> int:
    batch, heads, length, dim = query
    return 4 * batch * heads * length * key[2] * dim


def _packed(inputs: list[int], weight: list[int], *others: Any, out_shape: list[int], **options: Any) -> int:
    return 2 * math.prod(out_shape) * inputs[-1]


def _backward(gradient: list[int], query: list[int], key: list[int], *others: Any, **options: Any) -> int:
    return int(BACKWARD_OVER_FORWARD * _forward(query, key))


CPU_OPERATIONS = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _forward,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _backward,
    torch.ops.mkldnn._linear_pointwise: _packed,
}
"""Operations that torch's counter does not know. It calls these functions with shapes instead of tensors."""
