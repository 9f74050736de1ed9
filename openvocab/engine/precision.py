"""The path of float32 matrix products: the fast one among those that keep float32's accuracy."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from time import perf_counter
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from openvocab.process.matmul_precision import kept_matmul_precision

logger = logging.getLogger(__name__)

Precision = Literal["auto", "highest", "medium"]
TOLERANCE = 4e-6
"""Relative error of a 1024-long product: true float32 reads 2e-7 to 7e-7, TF32 3e-4, bfloat16 3e-3."""
MARGIN = 0.97
"""Of the time in "highest" that "medium" may take to be chosen: a difference that a probe can measure, and worth it."""
ROUNDS = 5
"""In which a work is timed in both precisions."""
LEAST_ROUNDS, SECONDS = 3, 0.2
"""Of those at least so many, and no further one once so much time has passed."""
HOPELESS = 1.5
"""Ratio of times from which two rounds suffice: half the time in the other work would not make up for it."""


@dataclass(frozen=True)
class Timing:
    """What a probe measured on one device: GFLOP/s of a feed-forward layer, and seconds of all work in proportion."""

    highest: float
    medium: float
    time_ratio: float
    """Medium over highest, of transformer blocks: products and attention."""


def use_fast_matmul(precision: Precision = "auto", keep: str | None = None) -> str:
    """Set torch's float32 matrix-product precision for the process and log it; return "highest" or "medium".

    "medium" lets torch leave its default library. Where the other one computes in true float32 (oneDNN on CPUs without
    AMX) it is a free choice: up to twice as fast on one processor, a quarter slower on the next. Where it rounds to
    TF32 or bfloat16 (most GPUs, CPUs with AMX), it is none.

    Args:
        precision: "highest" and "medium" set that; "auto" takes "medium" if its error is that of float32 rounding and
            its time the shorter one by a margin, both measured once on each device of this machine.
        keep: what "auto" chose when the run began; taken as it is, so that a resumed run computes the same bits.

    Raises:
        ValueError: another word.
    """
    if precision not in ("auto", "highest", "medium"):
        raise ValueError(f"precision: expected 'auto', 'highest' or 'medium', got {precision!r}")
    if keep not in (None, "highest", "medium"):
        raise ValueError(f"keep: expected 'highest' or 'medium', got {keep!r}")
    reason = "as asked"
    if precision == "auto" and keep is not None:
        precision, reason = keep, "as the run began"
    elif precision == "auto":
        devices = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
        verdicts = [_judge(device) for device in devices]
        precision = "medium" if all(good for good, _ in verdicts) else "highest"
        reason = "; ".join(why for _, why in verdicts)
    torch.set_float32_matmul_precision(precision)
    logger.info(f"float32 matrix products: {precision} ({reason})")
    return precision


def _judge(device: str) -> tuple[bool, str]:
    """Say whether "medium" is exact and fast on a device, and what was measured."""
    error = medium_error(device)
    reason = f"error of medium on {device} {error:.1e}"
    if error > TOLERANCE:
        return False, reason
    timing = medium_timing(device)
    figures = f"{timing.highest:.0f} GFLOP/s in highest, {timing.medium:.0f} in medium"
    return timing.time_ratio <= MARGIN, f"{reason}, {figures}, blocks take {timing.time_ratio:.2f} of the time"


@cache
def medium_error(device: str) -> float:
    """Measure the relative error of a linear layer in "medium" against float64, once a process and device."""
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
    """Time both precisions in turn on the work of an image tower and of a text tower, once a process and device.

    No round of a work begins `SECONDS` after its first, but for three in all: about a second on one core.
    Attention is part of it: under "medium" torch's fused kernel sets up a oneDNN product for every few rows, which can
    cost more than faster linear layers win.
    """
    with kept_matmul_precision(), torch.no_grad():
        image = _Work.of(device, batch=1, tokens=1025, width=768, heads=3)
        text = _Work.of(device, batch=16, tokens=77, width=512, heads=8)
        times = {work: _best_times(work) for work in (image, text)}
    ratios = [work.block_time(times[work]["medium"]) / work.block_time(times[work]["highest"]) for work in times]
    speeds = {precision: image.flops / seconds[0] / 1e9 for precision, seconds in times[image].items()}
    return Timing(speeds["highest"], speeds["medium"], sum(ratios) / len(ratios))


@dataclass(frozen=True, eq=False)
class _Work:
    """A linear layer and an attention of a tower, small parts of a block."""

    inputs: Tensor
    weight: Tensor
    qkv: Tensor
    linears: float
    """How often the block does the work of this linear layer."""
    attentions: float

    @classmethod
    def of(cls, device: str, batch: int, tokens: int, width: int, heads: int) -> "_Work":
        """Make the work of a block of 64-wide heads; a block has 12 * width^2 weights, the layer here 4."""
        random = torch.Generator().manual_seed(0)
        inputs = torch.randn(batch * tokens, width, generator=random).to(device)
        weight = torch.randn(4 * width, width, generator=random).to(device)
        qkv = torch.randn(3, batch, heads, tokens, 64, generator=random).to(device)
        return cls(inputs, weight, qkv, 3.0, width / 64 / heads)

    @property
    def flops(self) -> int:
        """Operations of the linear layer."""
        return 2 * self.inputs.numel() * len(self.weight)

    def block_time(self, seconds: Sequence[float]) -> float:
        """Return the time of a block from those of the layer and of the attention."""
        return self.linears * seconds[0] + self.attentions * seconds[1]


def _best_times(work: _Work) -> dict[str, tuple[float, float]]:
    """Return for each precision the shortest seconds of the linear layer and of the attention."""
    parts = (lambda: F.linear(work.inputs, work.weight), lambda: F.scaled_dot_product_attention(*work.qkv))
    best = {"highest": [float("inf")] * 2, "medium": [float("inf")] * 2}
    started = perf_counter()
    for done in range(ROUNDS):
        if done >= LEAST_ROUNDS and perf_counter() - started > SECONDS:
            break
        if done >= 2 and work.block_time(best["medium"]) > HOPELESS * work.block_time(best["highest"]):
            break
        for precision, seconds in best.items():
            torch.set_float32_matmul_precision(precision)
            for index, part in enumerate(parts):
                seconds[index] = min(seconds[index], _seconds(part, work.inputs.device))
    return {precision: tuple(seconds) for precision, seconds in best.items()}


def _seconds(part: Callable[[], Tensor], device: torch.device) -> float:
    start = perf_counter()
    part()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return perf_counter() - start
