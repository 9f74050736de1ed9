"""The machine of the measurements: the processor and its measured peaks."""

import os
import platform
import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.comparison import matmul_precision, peaks_of_products
from benchmarks.gpu import describe_gpu, product_peaks
from openvocab.engine.precision import medium_error, use_fast_matmul

ROWS, INNER, OUTER = 1025, 768, 3072
"""Sizes of a feed-forward layer of a ViT-B/16 at 512 pixels."""
FASTER_LIBRARY = 1.2
"""Gain of a faster library above which the note of a row mentions it."""


def describe_machine(threads: int, device: str = "cpu") -> dict[str, Any]:
    """Return processor, GPU if `device` is "cuda", versions, threads and peaks of `device`; takes about two seconds."""
    with matmul_precision("ours"):
        chosen = use_fast_matmul("auto")
    return {
        "cpu": cpu_model(),
        "onednn_isa": os.environ.get("ONEDNN_MAX_CPU_ISA", "ALL"),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": threads,
        "fast_matmul": chosen,
        "error_of_medium": medium_error(device),
        "peak_gflops": product_peaks() if device == "cuda" else gemm_peaks(),
        **({"device": device, **describe_gpu()} if device == "cuda" else {}),
    }


def cpu_model() -> str:
    """Return the name of the processor as the system reports it."""
    info = Path("/proc/cpuinfo")
    match = re.search(r"^model name\s*:\s*(.+)$", info.read_text(), re.MULTILINE) if info.exists() else None
    return match[1] if match else platform.processor() or platform.machine()


def gemm_peaks(seconds: float = 0.4) -> dict[str, float]:
    """Return the best GFLOP/s of a linear layer in float32 (torch's default), float32 `medium` and bfloat16.

    Args:
        seconds: time spent on each.
    """
    inputs, weight = torch.randn(ROWS, INNER), torch.randn(OUTER, INNER)
    return peaks_of_products(partial(_best_gflops, seconds=seconds), inputs, weight)


def attainable_peak(machine: dict[str, Any], products: str) -> float:
    """Return the GFLOP/s that products of a type can reach here, in the precision that the library allows."""
    peaks = machine["peak_gflops"]
    if products == "float32" and machine["fast_matmul"] == "medium":
        return max(peaks["float32"], peaks["float32_medium"])
    return peaks[products]


def is_slower_here(machine: dict[str, Any], products: str | None) -> bool:
    """Return whether products of a type are slower than float32 on this machine, so that `auto` chooses float32."""
    return products == "bfloat16" and attainable_peak(machine, products) < attainable_peak(machine, "float32")


def library_note(machine: dict[str, Any], products: str | None) -> str:
    """Return a note on how much a ratio owes to this machine's libraries; "" if next to nothing."""
    if products is None:
        return ""
    if is_slower_here(machine, products):
        return "bfloat16 is slower than float32 here, and `auto` does not take it: no goal"
    gain = attainable_peak(machine, products) / machine["peak_gflops"]["float32"]
    if gain < FASTER_LIBRARY:
        return ""
    if products == "bfloat16":
        return f"leans on bfloat16 units: products {gain:.1f} times as fast here as torch's default float32"
    return f"leans on oneDNN, {gain:.1f} times as fast here as torch's default library (precision=medium)"


@torch.inference_mode()
def _best_gflops(inputs: Tensor, weight: Tensor, seconds: float) -> float:
    def product() -> Tensor:
        return F.linear(inputs, weight)

    product()
    return 2 * inputs.numel() * len(weight) / _best_time(product, seconds) / 1e9


def _best_time(work: Callable[[], Any], seconds: float) -> float:
    best, stop = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < stop:
        start = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - start)
    return best
