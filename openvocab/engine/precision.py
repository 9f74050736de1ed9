"""The precision setting of float32 matrix products: the fastest that keeps the accuracy of float32."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from time import perf_counter
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from openvocab.argument_checks import check_choice
from openvocab.process.matmul_precision import kept_matmul_precision

logger = logging.getLogger(__name__)

MatmulPrecision = Literal["highest", "medium"]
Precision = Literal["auto", "highest", "medium"]
TOLERANCE = 4e-6
"""Largest relative error of a product of length 1024: float32 has 2e-7 to 7e-7, TF32 3e-4, bfloat16 3e-3."""
MARGIN = 0.85
"""Largest time of "medium", relative to "highest", at which it is chosen: a gain that a probe measures reliably even
next to other jobs, since two runs of one seed differ in their last bits if their choices do."""
ROUNDS = 5
"""Number of rounds; in each, a workload is timed in both precisions."""
LEAST_ROUNDS, SECONDS = 3, 0.2
"""At least so many rounds are run, and no further one after so many seconds."""
HOPELESS = 1.5
"""Ratio of times above which two rounds suffice: even half the time in the other workload would not outweigh it."""


@dataclass(frozen=True)
class Timing:
    """Measurements on one device: GFLOP/s of a feed-forward layer in both precisions, and the ratio of block times."""

    highest: float
    medium: float
    time_ratio: float
    """Time of transformer blocks (products and attention) in medium, divided by that in highest."""


def use_fast_matmul(precision: Precision = "auto", keep: MatmulPrecision | None = None) -> MatmulPrecision:
    """Set torch's precision of float32 matrix products for the process, log it, and return "highest" or "medium".

    With "medium", torch may use another library than its default. If that library computes in true float32 (oneDNN on
    CPUs without AMX), only speed decides: it is up to twice as fast on some processors, and a quarter slower on others.
    If it rounds to TF32 or bfloat16 (most GPUs, CPUs with AMX), it is not accurate enough.

    Args:
        precision: "highest" and "medium" are set as given; "auto" chooses "medium" if its error is that of float32
            rounding and it is faster by a margin, both measured once on each device of this machine.
        keep: what "auto" chose when the run began; it is set as given, so that a resumed run computes the same bits.

    Raises:
        ValueError: `precision` or `keep` is not one of the choices.
    """
    check_choice("precision", precision, ("auto", "highest", "medium"))
    check_choice("keep", keep, ("highest", "medium", None))
    chosen: MatmulPrecision
    if precision != "auto":
        chosen, reason = precision, "as asked"
    elif keep is not None:
        chosen, reason = keep, "as the run began"
    else:
        devices = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
        verdicts = [_probe_medium(device) for device in devices]
        chosen = "medium" if all(pays for pays, _ in verdicts) else "highest"
        reason = "; ".join(measured for _, measured in verdicts)
    torch.set_float32_matmul_precision(chosen)
    logger.debug(f"float32 matrix products: {chosen} ({reason})")
    return chosen


def _probe_medium(device: str) -> tuple[bool, str]:
    """Return whether "medium" is accurate and fast on a device, and what was measured."""
    error = medium_error(device)
    reason = f"error of medium on {device} {error:.1e}"
    if error > TOLERANCE:
        return False, reason
    timing = medium_timing(device)
    figures = f"{timing.highest:.0f} GFLOP/s in highest, {timing.medium:.0f} in medium"
    return timing.time_ratio <= MARGIN, f"{reason}, {figures}, blocks take {timing.time_ratio:.2f} of the time"


@cache
def medium_error(device: str) -> float:
    """Measure the relative error of a linear layer in "medium" against float64, once per process and device."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(128, 1024, generator=generator)
    weight = torch.randn(256, 1024, generator=generator)
    exact = inputs.double() @ weight.double().T
    with kept_matmul_precision(), torch.no_grad():
        torch.set_float32_matmul_precision("medium")
        product = F.linear(inputs.to(device), weight.to(device)).cpu()
    return float((product - exact).norm() / exact.norm())


@cache
def medium_timing(device: str) -> Timing:
    """Time both precisions in turn on layers of an image tower and of a text tower, once per process and device.

    After `LEAST_ROUNDS`, no round of a workload begins later than `SECONDS` after its first: about a second in all on
    one core. Attention is included, because in "medium" torch's fused kernel sets up a oneDNN product for every few
    rows, which can take more time than the faster linear layers save.
    """
    with kept_matmul_precision(), torch.no_grad():
        image = _Workload.of(device, batch=1, tokens=1025, width=768, heads=3)
        text = _Workload.of(device, batch=16, tokens=77, width=512, heads=8)
        times = {load: _best_times(load) for load in (image, text)}
    ratios = [load.block_time(times[load]["medium"]) / load.block_time(times[load]["highest"]) for load in times]
    speeds = {precision: image.flops / seconds[0] / 1e9 for precision, seconds in times[image].items()}
    return Timing(speeds["highest"], speeds["medium"], sum(ratios) / len(ratios))


@dataclass(frozen=True, eq=False)
class _Workload:
    """One linear layer and one attention: parts of a transformer block, small enough for a probe."""

    inputs: Tensor
    """(B * T, C) tokens."""
    weight: Tensor
    """(4 C, C)."""
    qkv: Tensor
    """(3, B, heads, T, 64)."""
    linears: float
    """How many times the work of this linear layer a block does."""
    attentions: float
    """How many times the work of this attention a block does."""

    @classmethod
    def of(cls, device: str, batch: int, tokens: int, width: int, heads: int) -> "_Workload":
        """Build the parts of a block with 64 channels per head: 12 * width^2 weights, this layer has 4."""
        random = torch.Generator().manual_seed(0)
        inputs = torch.randn(batch * tokens, width, generator=random).to(device)
        weight = torch.randn(4 * width, width, generator=random).to(device)
        qkv = torch.randn(3, batch, heads, tokens, 64, generator=random).to(device)
        return cls(inputs, weight, qkv, 3.0, width / 64 / heads)

    @property
    def flops(self) -> int:
        """Floating-point operations of the linear layer."""
        return 2 * self.inputs.numel() * len(self.weight)

    def block_time(self, seconds: Sequence[float]) -> float:
        """Return the time of a whole block from those of the linear layer and the attention."""
        return self.linears * seconds[0] + self.attentions * seconds[1]


def _best_times(load: _Workload) -> dict[str, tuple[float, float]]:
    """Return, for each precision, the shortest seconds of the linear layer and of the attention."""
    parts = (lambda: F.linear(load.inputs, load.weight), lambda: F.scaled_dot_product_attention(*load.qkv))
    best = {"highest": [float("inf")] * 2, "medium": [float("inf")] * 2}
    started = perf_counter()
    for done in range(ROUNDS):
        if done >= LEAST_ROUNDS and perf_counter() - started > SECONDS:
            break
        if done >= 2 and load.block_time(best["medium"]) > HOPELESS * load.block_time(best["highest"]):
            break
        for precision, seconds in best.items():
            torch.set_float32_matmul_precision(precision)
            for index, part in enumerate(parts):
                seconds[index] = min(seconds[index], _seconds(part, load.inputs.device))
    return {precision: (seconds[0], seconds[1]) for precision, seconds in best.items()}


def _seconds(part: Callable[[], Tensor], device: torch.device) -> float:
    start = perf_counter()
    part()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return perf_counter() - start
