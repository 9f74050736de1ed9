"""Whether bfloat16 pays on a device: what `auto` stands for in every setting that names a dtype."""

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
"""How many times as fast as float32 bfloat16 must be: below it, its rounding buys nothing."""
AGREEING, AGREEMENT = 3, 0.05
"""Calls, the fastest ones, whose times must agree to this share of the fastest."""
SECONDS = 0.3
"""In which they may come to agree, for products and again for convolutions."""
HOPELESS = 0.25
"""Gain on a CPU from which down one call of each suffices: bfloat16 is emulated there, and calls take long."""
PRODUCT = {"cpu": (256, 512, 512), "gpu": (4096, 1024, 4096)}
"""Rows, input and output channels of a linear layer."""
CONVOLUTION = {"cpu": (4, 64, 24), "gpu": (64, 256, 32)}
"""Images, channels and side of the maps of a 3 x 3 convolution."""
_ONE_AT_A_TIME = threading.Lock()
"""Held while a thread measures: the number of threads, which it changes and puts back, is the process's."""


@dataclass(frozen=True)
class BFloat16Gain:
    """How many times as fast as float32 bfloat16 is on a device."""

    products: float
    convolutions: float

    @property
    def faster_dtype(self) -> torch.dtype:
        """bfloat16 where both are faster in it by `MARGIN`, else float32: most models have both kinds of work."""
        return torch.bfloat16 if min(self.products, self.convolutions) >= MARGIN else torch.float32

    def __str__(self) -> str:
        figures = f"products {self.products:.2f}, convolutions {self.convolutions:.2f} times as fast"
        return f"bfloat16 against float32: {figures}"


def faster_dtype(device: str | torch.device, purpose: str) -> torch.dtype:
    """Return bfloat16 where it pays on `device`, else float32, and log the choice with its figures.

    Args:
        purpose: what is computed in it, for the log.
    """
    gain = bfloat16_gain(device)
    reason = f"{gain} on {torch.device(device).type}"
    logger.info(f"{purpose} in {dtype_name(gain.faster_dtype)} ({reason})")
    return gain.faster_dtype


def dtype_name(dtype: torch.dtype) -> str:
    """Return the name that configs give a dtype, such as "bfloat16"."""
    return str(dtype).removeprefix("torch.")


def bfloat16_gain(device: str | torch.device) -> BFloat16Gain:
    """Measure it, once a process, device and precision of float32 products.

    Takes half a second to a second, the more where torch has computed nothing yet; where bfloat16 is emulated, as long
    as two calls of each kind of work.
    """
    with _ONE_AT_A_TIME:
        return _measure(torch.device(device), matmul_precision(device))


@cache
def _measure(device: torch.device, float32_precision: str) -> BFloat16Gain:
    """Time both kinds of work; `float32_precision`, the process's, is what the figures hold for."""
    generator = torch.Generator().manual_seed(0)  # of its own: a run's random numbers must not depend on the probe
    with torch.inference_mode(False), torch.enable_grad(), _one_thread(device):
        return BFloat16Gain(
            products=_gain(_product_step(device, generator), device),
            convolutions=_gain(_convolution_step(device, generator), device),
        )


def _product_step(device: torch.device, generator: torch.Generator) -> Callable[[], None]:
    rows, width, channels = PRODUCT["cpu" if device.type == "cpu" else "gpu"]
    inputs = torch.randn(rows, width, generator=generator).to(device).requires_grad_()
    weight = torch.randn(channels, width, generator=generator).to(device).requires_grad_()
    return lambda: _back(F.linear(inputs, weight), inputs, weight)


def _convolution_step(device: torch.device, generator: torch.Generator) -> Callable[[], None]:
    images, channels, side = CONVOLUTION["cpu" if device.type == "cpu" else "gpu"]
    layout = torch.channels_last
    inputs = torch.randn(images, channels, side, side, generator=generator)
    weight = torch.randn(channels, channels, 3, 3, generator=generator)
    inputs, weight = (t.to(device, memory_format=layout).requires_grad_() for t in (inputs, weight))
    return lambda: _back(F.conv2d(inputs, weight, padding=1), inputs, weight)


def _back(output: Tensor, *inputs: Tensor) -> None:
    torch.autograd.grad(output, inputs, torch.ones_like(output))


def _gain(step: Callable[[], None], device: torch.device) -> float:
    """Return the time of a training step in float32 divided by that under bfloat16 autocast.

    The fastest of several calls in turn count: other jobs on the machine only ever make one slower. It takes more
    calls until the fastest ones agree, time is up or nothing could save bfloat16.
    """
    times: dict[bool, list[float]] = {False: [], True: []}
    _seconds(step, device, False)  # libraries are set up and compile their kernels in the first call
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
    """Compute in the calling thread alone: its own processor time is the same whatever else the machine does.

    With two jobs beside it on two cores, the wall-clock time of all threads made a fifth of the choices wrong, the
    processor time of one thread none; the ratio is that of the processor's units, not of their number.
    """
    before = torch.get_num_threads()
    if device.type == "cpu":
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if device.type == "cpu":
            torch.set_num_threads(before)


def _synchronize(device: torch.device) -> None:
    if device.type != "cpu":
        getattr(torch, device.type).synchronize()
