"""The process's precision of float32 matrix products, whichever of torch's switches its host has used.

torch has two: `set_float32_matmul_precision` for all devices, since 2.9 also `fp32_precision` for each backend. Where
the second one differs between backends, `torch.get_float32_matmul_precision` raises RuntimeError.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

WORDS = {"tf32": "high", "bf16": "medium"}
"""What the older switch calls the precisions of the newer one; all others are "highest"."""


def matmul_precision(device: str | torch.device) -> str:
    """Return "highest", "high" or "medium": what holds for float32 products on a device."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        backend = torch.backends.mkldnn if torch.device(device).type == "cpu" else torch.backends.cuda
        return WORDS.get(backend.matmul.fp32_precision, "highest")


@contextmanager
def kept_matmul_precision() -> Iterator[None]:
    """Put the precision back at the end, in both switches."""
    try:
        before = torch.get_float32_matmul_precision()
    except RuntimeError:
        before = "highest"  # unreadable: torch's default, since what counts is in the newer switch
    backends = [(switch, switch.fp32_precision) for switch in _newer_switches()]
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        for switch, precision in backends:
            switch.fp32_precision = "none"  # as `torch.backends.fp32_precision` says
            if switch.fp32_precision != precision:
                switch.fp32_precision = precision


def _newer_switches() -> list[Any]:
    """Return what the older switch sets of the newer one; nothing before torch 2.9."""
    if not hasattr(torch.backends, "fp32_precision"):
        return []
    return [torch.backends.cuda.matmul, torch.backends.mkldnn.matmul]
