"""Scaled dot-product attention, softmax(q kT / sqrt(d) + bias) v, by the kernel that is fastest here.

Needs neither open_clip nor timm.
"""

import os
import platform
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from openvocab.process.matmul_precision import matmul_precision

HALF = (torch.bfloat16, torch.float16)
FEW_TOKENS = 384
"""Number of keys up to which plain matrix products beat the fused kernel's set-up."""
SCORES_AT_ONCE = 2**21
"""Entries of the score matrix that are held at once: 4 MB in half precision.

Larger blocks are allocated in fresh memory pages, which costs more than the products themselves.
"""


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute softmax(q kT / sqrt(d) + bias) v.

    torch's fused kernel is the fastest way except in two cases on a CPU. In half precision with native instructions,
    matrix products over a few heads at a time take 0.6 of its time at 1025 tokens. With float32 products in "medium"
    precision, the kernel sets up a small product for every few rows: at 10 tokens it takes five times as long as in
    "highest", at 260 nearly twice as long.

    Args:
        q: (B, heads, Nq, d).
        k, v: (B, heads, N, d).
        bias: (Nq, N) or (B, 1, 1, N), added to the scores; default: none.

    Returns:
        (B, heads, Nq, d).
    """
    shared = bias is None or bias.ndim == 2
    if q.device.type == "cpu" and shared and (q.dtype in HALF and has_native_bfloat16() or _many_small_products(q, k)):
        return _attend_in_parts(q, k, v, bias)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias)


def _many_small_products(q: Tensor, k: Tensor) -> bool:
    """Return whether set-up dominates the fused kernel, and no backward pass would have to keep the score matrix."""
    few = q.dtype == torch.float32 and k.shape[2] <= FEW_TOKENS and not (torch.is_grad_enabled() and q.requires_grad)
    return few and matmul_precision("cpu") != "highest"


@cache
def has_native_bfloat16() -> bool:
    """Return whether the processor has instructions for bfloat16 products that oneDNN may use."""
    allowed = os.environ.get("ONEDNN_MAX_CPU_ISA", "ALL").upper()
    if allowed not in ("ALL", "DEFAULT") and "BF16" not in allowed and "AMX" not in allowed:
        return False
    if platform.machine() not in ("x86_64", "AMD64"):
        return True  # not detectable there
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _attend_in_parts(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None) -> Tensor:
    """Attend by plain matrix products, over as many heads at once as `SCORES_AT_ONCE` allows."""
    shape = (*q.shape[:3], v.shape[-1])
    # Scaling q touches d entries per query, scaling the scores N. Batch and heads are one dimension.
    q, k, v = (q * q.shape[-1] ** -0.5).flatten(0, 1), k.flatten(0, 1).transpose(1, 2), v.flatten(0, 1)
    # The products are split over heads, not over queries: a head with too many scores is computed alone.
    heads = max(1, SCORES_AT_ONCE // (q.shape[1] * k.shape[2]))
    mixed = []
    for q_part, k_part, v_part in zip(q.split(heads), k.split(heads), v.split(heads)):
        scores = q_part @ k_part  # (heads, Nq, N)
        mixed.append((scores if bias is None else scores + bias).softmax(-1) @ v_part)
    return torch.cat(mixed).view(shape)
