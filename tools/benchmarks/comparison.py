"""A row of the benchmark, and how its two sides are timed."""

import gc
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import cv2
import torch
from torch import Tensor

from openvocab.engine.precision import use_fast_matmul
from openvocab.process.matmul_precision import kept_matmul_precision

Work = Callable[[], Any]
Side = Literal["peer", "ours"]


@dataclass(frozen=True)
class Sides:
    """A prepared row: each call does all the work of one side and returns its result."""

    peer: Work | None
    """None if there is nothing to compare with; the row then only states milliseconds."""
    ours: Work
    error: Callable[[Any, Any], float] | None = None
    """Compares the result of the peer with ours."""
    peer_scale: float = 1.0
    """How many calls the work of the row consists of; above 1 if a call does only a part of the work."""
    ours_scale: float = 1.0
    """The same for our side."""


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Goals: `max_ratio` bounds the ratio ours / peer in time, `max_memory_ratio` in memory, `max_ms` our milliseconds,
    and `min_peak_fraction` is the lower bound of our fraction of the measured peak of matrix products. If the work
    consists of such products, the ratio depends on how the libraries of a processor differ; the fraction does not. On
    machines where bfloat16 is slower than float32, rows in bfloat16 have no time goal.
    """

    name: str
    max_ratio: float | None
    prepare: Callable[..., Sides]
    """A function of a module, so that the processes that measure memory can import it."""
    products: Literal["float32", "bfloat16"] | None = None
    """Type of our matrix products, if they are the work."""
    repeats: int = 5
    threads: int | None = None
    """Number of threads of this row; default: that of the whole benchmark."""
    memory: bool = False
    """Whether peak memory is measured."""
    max_memory_ratio: float | None = None
    max_ms: float | None = None
    min_peak_fraction: float | None = None
    note: str = ""
    clock: Callable[[], float] = time.perf_counter
    """What the times of the row are differences of, in seconds."""
    on_cuda: bool = False
    """Whether `prepare` takes `device`, on which both sides work; the other rows always run on the processor."""


@dataclass
class Timing:
    """Seconds of each round, scaled to the whole work."""

    peer: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float | None:
        """Median over the rounds of ours / peer: the two calls of a round see the machine in the same state."""
        if not self.peer:
            return None
        return statistics.median(ours / peer for ours, peer in zip(self.ours, self.peer, strict=True))


def time_sides(sides: Sides, repeats: int, clock: Callable[[], float] = time.perf_counter) -> Timing:
    """Time both sides `repeats` times in turn, alternating which is first.

    Garbage is collected before each call. The peer runs at torch's default precision, our side with the fast matrix
    products that the library's probe allows.

    Raises:
        ValueError: `repeats` is below 1.
    """
    if repeats < 1:
        raise ValueError(f"repeats: expected at least 1, got {repeats}")
    timing = Timing()
    turns: list[tuple[Side, Work, float, list[float]]] = [("ours", sides.ours, sides.ours_scale, timing.ours)]
    if sides.peer is not None:
        turns.insert(0, ("peer", sides.peer, sides.peer_scale, timing.peer))
    for _ in range(repeats):
        for side, work, scale, seconds in turns:
            with matmul_precision(side):
                gc.collect()
                start = clock()
                work()
                seconds.append((clock() - start) * scale)
        turns.reverse()
    return timing


@contextmanager
def matmul_precision(side: Side) -> Iterator[None]:
    """Use the precision of float32 matrix products of a side in this block."""
    with kept_matmul_precision():
        if side == "ours":
            use_fast_matmul("auto")
        else:
            torch.set_float32_matmul_precision("highest")
        yield


def peaks_of_products(gflops: Callable[[Tensor, Tensor], float], left: Tensor, right: Tensor) -> dict[str, float]:
    """Return the GFLOP/s of a product in float32 (torch's default), float32 `medium` and bfloat16.

    Args:
        gflops: measures the product of two matrices in their own type.
        left, right: (m, k) and (k, n) float32, or as `gflops` multiplies them.
    """
    with kept_matmul_precision():
        torch.set_float32_matmul_precision("highest")
        peaks = {"float32": gflops(left, right)}
        torch.set_float32_matmul_precision("medium")
        peaks["float32_medium"] = gflops(left, right)
    return {**peaks, "bfloat16": gflops(left.bfloat16(), right.bfloat16())}


@contextmanager
def use_threads(count: int) -> Iterator[None]:
    """Let torch and OpenCV use `count` threads."""
    previous = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    try:
        yield
    finally:
        torch.set_num_threads(previous[0])
        cv2.setNumThreads(previous[1])
