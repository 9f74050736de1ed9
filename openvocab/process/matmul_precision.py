"""Read and restore the process's precision of float32 matrix products, whichever of torch's switches set it.

torch has two: `set_float32_matmul_precision` for all devices, and since 2.9 `fp32_precision` for each backend. If the
second one differs between backends, `torch.get_float32_matmul_precision` raises RuntimeError.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

WORDS = {"tf32": "high", "bf16": "medium"}
"""The newer switch's precisions in the words of the older one; all others are "highest"."""


def matmul_precision(device: str | torch.device) -> str:
    """Return "highest", "high" or "medium": the precision of float32 products on a device."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        # torch's stubs lack mkldnn's switch
        backend: Any = torch.backends.mkldnn if torch.device(device).type == "cpu" else torch.backends.cuda
        return WORDS.get(backend.matmul.fp32_precision, "highest")


@contextmanager
def kept_matmul_precision() -> Iterator[None]:
    """Restore the precision at the end, in both switches."""
    try:
        older = torch.get_float32_matmul_precision()
    except RuntimeError:
        older = "highest"  # unreadable: torch's default, since the newer switch decides
    backends = [(switch, switch.fp32_precision) for switch in _newer_switches()]
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(older)
        for switch, precision in backends:
            switch.fp32_precision = "none"  # follows `torch.backends.fp32_precision`
            if switch.fp32_precision != precision:
                switch.fp32_precision = precision


def _newer_switches() -> list[Any]:
    """Return the backends whose newer switch the older one sets; none before torch 2.9."""
    if not hasattr(torch.backends, "fp32_precision"):
        return []
    mkldnn: Any = torch.backends.mkldnn  # torch's stubs lack its switch
    return [torch.backends.cuda.matmul, mkldnn.matmul]
