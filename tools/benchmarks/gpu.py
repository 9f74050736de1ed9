"""What differs for a row on a CUDA device: the clock, the memory, and the peaks of the machine."""

import gc
import shutil
import subprocess
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.comparison import Side, Work, matmul_precision, peaks_of_products

SIDE = 8192
"""Side of the square matrices whose product measures the peak: large enough to occupy the whole device."""
WARM_UP = 2
"""Calls of each side before timing, in which the device raises its clock and libraries load their kernels."""


def require_cuda() -> None:
    """Raise `ValueError` without a CUDA device."""
    if not torch.cuda.is_available():
        raise ValueError("--device cuda: torch finds no CUDA device here")


def synchronized_clock() -> float:
    """Wait until all submitted work of the device is done, and return the time in seconds."""
    torch.cuda.synchronize()
    return time.perf_counter()


def describe_gpu() -> dict[str, Any]:
    """Return the name of the device, and versions of its software."""
    return {
        "gpu": torch.cuda.get_device_name(),
        "driver": _driver(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "cudnn_tf32": torch.backends.cudnn.allow_tf32,
    }


def product_peaks(repeats: int = 10) -> dict[str, float]:
    """Return the best GFLOP/s of a large product in float32, float32 `medium` (TF32 on most GPUs) and bfloat16."""
    left, right = (torch.randn(SIDE, SIDE, device="cuda") for _ in range(2))
    return peaks_of_products(partial(_best_gflops, repeats=repeats), left, right)


def gpu_peak_memory_mb(work: Work, side: Side) -> float:
    """Return the peak memory of the device during one call, in MB above what it held before."""
    gc.collect()
    torch.cuda.empty_cache()
    with matmul_precision(side):
        start = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - start) / 2**20


def _best_gflops(left: Tensor, right: Tensor, repeats: int) -> float:
    left @ right
    seconds = min(_seconds(lambda: left @ right) for _ in range(repeats))
    return 2 * SIDE**3 / seconds / 1e9


def _seconds(work: Callable[[], Any]) -> float:
    start = synchronized_clock()
    work()
    return synchronized_clock() - start


def _driver() -> str:
    """Return the version of the driver, as reported by nvidia-smi."""
    if shutil.which("nvidia-smi") is None:
        return "unknown"
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True, timeout=30)
    return answer.stdout.split()[0] if answer.returncode == 0 and answer.stdout.split() else "unknown"
