"""Measure whether bfloat16 is faster on a device: what `auto` means in every setting of a dtype."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from openvocab.process.matmul_precision import matmul_precision

logger = logging.getLogger(__name__)

MARGIN = 1.15
"""Minimum speedup over float32 at which bfloat16 is worth its rounding."""
AGREEING, AGREEMENT = 3, 0.05
"""Number of fastest calls whose times must agree, and the relative difference that counts as agreement."""
SECONDS = 0.3
"""Time limit in seconds for the calls to agree: once for products, once for convolutions."""
HOPELESS = 0.25
"""Speedup on a CPU at or below which no further calls are timed: bfloat16 is emulated there, and calls are slow."""
PRODUCT = {"cpu": (256, 512, 512), "gpu": (4096, 1024, 4096)}
"""Rows, input and output channels of a linear layer."""
CONVOLUTION = {"cpu": (4, 64, 24), "gpu": (64, 256, 32)}
"""Images, channels and side of the feature maps of a 3 x 3 convolution."""
_ONE_AT_A_TIME = threading.Lock()
"""Held while a thread measures, since it changes and restores the process's number of threads."""


@dataclass(frozen=True)
class BFloat16Gain:
    """Speedup of bfloat16 over float32 on a device."""

    products: float
    convolutions: float

    @property
    def faster_dtype(self) -> torch.dtype:
        """bfloat16 if both speedups reach `MARGIN`, else float32: most models have both kinds of work."""
        return torch.bfloat16 if min(self.products, self.convolutions) >= MARGIN else torch.float32

    def __str__(self) -> str:
        figures = f"products {self.products:.2f}, convolutions {self.convolutions:.2f} times as fast"
        return f"bfloat16 against float32: {figures}"


def faster_dtype(device: str | torch.device, purpose: str) -> torch.dtype:
    """Return bfloat16 if it is faster on `device`, else float32, and log the choice with its figures.

    Args:
        device: to measure on.
        purpose: what is computed in that dtype, for the log: "regions are embedded".
    """
    gain = bfloat16_gain(device)
    reason = f"{gain} on {torch.device(device).type}"
    logger.info(f"{purpose} in {dtype_name(gain.faster_dtype)} ({reason})")
    return gain.faster_dtype


def dtype_name(dtype: torch.dtype) -> str:
    """Return the name that configs give a dtype, such as "bfloat16"."""
    return str(dtype).removeprefix("torch.")


def bfloat16_gain(device: str | torch.device) -> BFloat16Gain:
    """Return the measured speedup; measured once per process, device and precision of float32 products.

    It takes half a second to a second, more if torch has computed nothing yet; if bfloat16 is emulated, it takes the
    time of two calls of each kind of work.
    """
    with _ONE_AT_A_TIME:
        return _measure(torch.device(device), matmul_precision(device))


@cache
def _measure(device: torch.device, float32_precision: str) -> BFloat16Gain:
    """Time both kinds of work; `float32_precision` is the process's setting, and only a key of the cache."""
    generator = torch.Generator().manual_seed(0)  # separate, so that a run's random numbers do not depend on the probe
    with torch.inference_mode(False), torch.enable_grad(), _one_thread(device):
        return BFloat16Gain(
            products=_gain(_product_step(device, generator), device),
            convolutions=_gain(_convolution_step(device, generator), device),
        )


def _product_step(device: torch.device, generator: torch.Generator) -> Callable[[], None]:
    rows, width, channels = PRODUCT["cpu" if device.type == "cpu" else "gpu"]
    inputs = torch.randn(rows, width, generator=generator).to(device).requires_grad_()
    weight = torch.randn(channels, width, generator=generator).to(device).requires_grad_()
    return lambda: _backward(F.linear(inputs, weight), inputs, weight)


def _convolution_step(device: torch.device, generator: torch.Generator) -> Callable[[], None]:
    images, channels, side = CONVOLUTION["cpu" if device.type == "cpu" else "gpu"]
    layout = torch.channels_last
    inputs = torch.randn(images, channels, side, side, generator=generator)
    weight = torch.randn(channels, channels, 3, 3, generator=generator)
    inputs, weight = (t.to(device, memory_format=layout).requires_grad_() for t in (inputs, weight))
    return lambda: _backward(F.conv2d(inputs, weight, padding=1), inputs, weight)


def _backward(output: Tensor, *inputs: Tensor) -> None:
    torch.autograd.grad(output, inputs, torch.ones_like(output))


def _gain(step: Callable[[], None], device: torch.device) -> float:
    """Return the time of a training step in float32 divided by its time under bfloat16 autocast.

    The fastest of several alternating calls count, since other jobs on the machine can only make a call slower. Calls
    are repeated until the fastest ones agree, the time is up, or bfloat16 is hopelessly slow.
    """
    times: dict[bool, list[float]] = {False: [], True: []}
    _seconds(step, device, False)  # in the first call, libraries initialize and compile their kernels
    started = time.perf_counter()
    _seconds(step, device, True)
    while True:
        for enabled, seconds in times.items():
            seconds.append(_seconds(step, device, enabled))
        gain = min(times[False]) / min(times[True])
        is_hopeless = device.type == "cpu" and gain <= HOPELESS
        if is_hopeless or all(map(_is_settled, times.values())) or time.perf_counter() - started > SECONDS:
            return gain


def _is_settled(seconds: list[float]) -> bool:
    """Return True if the fastest of the times agree."""
    return len(seconds) >= AGREEING and sorted(seconds)[AGREEING - 1] <= min(seconds) * (1 + AGREEMENT)


def _seconds(step: Callable[[], None], device: torch.device, enabled: bool) -> float:
    clock = time.thread_time if device.type == "cpu" else time.perf_counter
    with torch.autocast(device.type, torch.bfloat16, enabled=enabled):
        _synchronize(device)
        started = clock()
        step()
        _synchronize(device)
        return clock() - started


@contextmanager
def _one_thread(device: torch.device) -> Iterator[None]:
    """Compute in the calling thread alone, whose processor time does not depend on other jobs.

    With two other jobs on two cores, the wall-clock time of all threads led to a wrong choice in a fifth of the cases,
    the processor time of one thread in none. The ratio is about the same for one core and for all.
    """
    num_threads = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if device.type == "cpu":
            torch.set_num_threads(num_threads)


def _synchronize(device: torch.device) -> None:
    if device.type != "cpu":
        getattr(torch, device.type).synchronize()
