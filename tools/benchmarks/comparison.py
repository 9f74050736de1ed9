"""What a row of the benchmark is, and how its two sides are timed."""

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
    """A row made ready: each call does the whole work of one side and returns its result."""

    peer: Work | None
    """None where there is nothing to compare with and the row states milliseconds."""
    ours: Work
    error: Callable[[Any, Any], float] | None = None
    """Takes the results of the peer and of ours."""
    peer_scale: float = 1.0
    """Times the work of one call is contained in the row's; above 1 where a call does a sample of it."""
    ours_scale: float = 1.0


@dataclass(frozen=True)
class Row:
    """One line of the table.

    `goal` bounds ours / peer in time, `memory_goal` in memory, `goal_ms` our milliseconds; `peak_goal` is the least
    share of the measured peak of its products. Where these are the work, a ratio depends on how a processor's libraries
    differ, and the share does not. Where bfloat16 is slower than float32, rows in it have no goal of time.
    """

    name: str
    goal: float | None
    prepare: Callable[..., Sides]
    """A function of a module, so that the processes that measure memory can find it."""
    products: Literal["float32", "bfloat16"] | None = None
    """Type of our matrix products, where they are the work."""
    repeats: int = 5
    threads: int | None = None
    """Where the row is about that many; else those of the run."""
    memory: bool = False
    memory_goal: float | None = None
    goal_ms: float | None = None
    peak_goal: float | None = None
    note: str = ""
    on_cuda: bool = False
    """Whether `prepare` takes `device`, which both sides then work on; the other rows are work of the processor."""


@dataclass
class Timing:
    """Seconds of each round, scaled to the whole work."""

    peer: list[float] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float | None:
        """Median over the rounds of ours / peer: both of one round see the machine in the same state."""
        if not self.peer:
            return None
        return statistics.median(ours / peer for ours, peer in zip(self.ours, self.peer, strict=True))


def time_sides(sides: Sides, repeats: int, clock: Callable[[], float] = time.perf_counter) -> Timing:
    """Time both sides `repeats` times in turn; who is first alternates.

    Garbage is collected before each call. The peer runs at torch's default precision, ours with the fast matrix
    products that the library's probe allows.

    Raises:
        ValueError: less than one repeat.
    """
    if repeats < 1:
        raise ValueError(f"repeats: expected at least 1, got {repeats}")
    timing = Timing()
    turns = [("ours", sides.ours, sides.ours_scale, timing.ours)]
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
    """Set the precision of float32 matrix products that a side works in."""
    with kept_matmul_precision():
        if side == "ours":
            use_fast_matmul("auto")
        else:
            torch.set_float32_matmul_precision("highest")
        yield


def peaks_of_products(gflops: Callable[[Tensor, Tensor], float], left: Tensor, right: Tensor) -> dict[str, float]:
    """Return the GFLOP/s of a product in float32 (torch's default), float32 `medium` and bfloat16.

    Args:
        gflops: measures the product of `left` and `right`, in the type that they have.
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
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
