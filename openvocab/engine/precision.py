"""The fast path of float32 matrix products, taken only where it keeps float32's accuracy."""

import logging
from functools import cache
from typing import Literal

import torch

logger = logging.getLogger(__name__)

Precision = Literal["auto", "highest", "medium"]
TOLERANCE = 4e-6
"""Relative error of a 1024-long product: true float32 reads 2e-7 to 7e-7, TF32 3e-4, bfloat16 3e-3."""


def use_fast_matmul(precision: Precision = "auto") -> str:
    """Set torch's float32 matrix-product precision for the process and log it; return "highest" or "medium".

    "medium" lets torch leave its default library. Where the other one computes in true float32 (oneDNN on many CPUs;
    there up to twice as fast), that is free; where it rounds to TF32 or bfloat16 (most GPUs, CPUs with AMX), it is not.

    Args:
        precision: "highest" and "medium" set that; "auto" takes "medium" if its error, measured once on each device of
            this machine, is that of float32 rounding.

    Raises:
        ValueError: another word.
    """
    if precision not in ("auto", "highest", "medium"):
        raise ValueError(f"precision: expected 'auto', 'highest' or 'medium', got {precision!r}")
    reason = "as asked"
    if precision == "auto":
        devices = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
        errors = {device: medium_error(device) for device in devices}
        precision = "medium" if max(errors.values()) <= TOLERANCE else "highest"
        reason = ", ".join(f"error of medium on {device} {error:.1e}" for device, error in errors.items())
    torch.set_float32_matmul_precision(precision)
    logger.info(f"float32 matrix products: {precision} ({reason})")
    return precision


@cache
def medium_error(device: str) -> float:
    """Measure the relative error of a linear layer in "medium" against float64, once a process and device."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(128, 1024, generator=generator)
    weight = torch.randn(256, 1024, generator=generator)
    exact = inputs.double() @ weight.double().T
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.no_grad():
            product = torch.nn.functional.linear(inputs.to(device), weight.to(device)).cpu()
    finally:
        torch.set_float32_matmul_precision(before)
    return float((product - exact).norm() / exact.norm())
