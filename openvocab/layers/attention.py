"""softmax(q kT / sqrt(d) + bias) v by whichever way is fast; any tower's, without a library of towers."""

import os
import platform
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from openvocab.process.matmul_precision import matmul_precision

HALF = (torch.bfloat16, torch.float16)
FEW_TOKENS = 384
"""Up to so many keys."""
SCORES_AT_ONCE = 2**21
"""Entries of the scores held at once in half precision: 4 MB. Larger ones land in fresh pages, dearer than the sums."""


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return softmax(q kT / sqrt(d) + bias) v, (B, heads, Nq, d); `bias` is (Nq, N), (B, 1, 1, N) or None.

    torch's fused kernel is the fast one but for two cases on a CPU. In half precision, where the processor has it,
    matrix products, some heads at a time, take 0.6 of its time at 1025 tokens. And where float32 products run in
    "medium", the kernel sets up a small product for every few rows: at 10 tokens it takes five times as long as in
    "highest", at 260 nearly twice as long.
    """
    shared = bias is None or bias.ndim == 2
    if q.device.type == "cpu" and shared and (q.dtype in HALF and has_native_bfloat16() or _many_small_products(q, k)):
        return _attend_in_parts(q, k, v, bias)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


def _many_small_products(q: Tensor, k: Tensor) -> bool:
    """Say whether the fused kernel is slow for its set-up, and no gradient would need the scores of the other way."""
    few = q.dtype == torch.float32 and k.shape[2] <= FEW_TOKENS and not (torch.is_grad_enabled() and q.requires_grad)
    return few and matmul_precision("cpu") != "highest"


@cache
def has_native_bfloat16() -> bool:
    """Say whether the processor multiplies bfloat16 by instructions of its own, and oneDNN may use them."""
    allowed = os.environ.get("ONEDNN_MAX_CPU_ISA", "ALL").upper()
    if allowed not in ("ALL", "DEFAULT") and "BF16" not in allowed and "AMX" not in allowed:
        return False
    if platform.machine() not in ("x86_64", "AMD64"):
        return True  # as before there was a choice
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _attend_in_parts(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """Attend with plain matrix products, as many heads at once as keep the scores in re-used memory."""
    shape = (*q.shape[:3], v.shape[-1])
    q, k, v = ((q * q.shape[-1] ** -0.5).flatten(0, 1), k.flatten(0, 1).transpose(1, 2), v.flatten(0, 1))
    heads = max(1, SCORES_AT_ONCE // (q.shape[1] * k.shape[2]))
    mixed = []
    for some_q, some_k, some_v in zip(q.split(heads), k.split(heads), v.split(heads)):
        scores = some_q @ some_k  # (heads, Nq, N)
        mixed.append((scores if bias is None else scores + bias).softmax(-1) @ some_v)
    return torch.cat(mixed).view(shape)
