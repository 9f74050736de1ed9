"""Measure a row for its line of the table."""

import gc
import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.comparison import Row, Sides, Timing, matmul_precision, time_sides, use_threads
from benchmarks.flops import count_flops
from benchmarks.gpu import WARM_UP, gpu_peak_memory_mb, synchronized_clock
from benchmarks.machine import attainable_peak, is_slower_here, library_note
from benchmarks.memory import peak_memory_mb

GPU_REPEATS = 9
"""Least number of timed calls on a GPU, where most calls take milliseconds."""


def measure(row: Row, machine: dict[str, Any], repeats: int | None = None) -> dict[str, Any]:
    """Run a row.

    Args:
        row: the row.
        machine: see `describe_machine`.
        repeats: number of timed calls of each side; default: that of the row.

    Returns:
        Plain values: milliseconds of the whole work, MB of peak memory above the start, None if not measured.
    """
    if machine.get("device") == "cuda":
        return _measure_on_gpu(row, machine, repeats or max(row.repeats, GPU_REPEATS))
    threads = row.threads or machine["threads"]
    with use_threads(threads):
        sides = row.prepare()
        error, flops = _first_calls(sides)
        timing = time_sides(sides, repeats or row.repeats, row.clock)
    scaled_flops = flops * sides.ours_scale
    del sides
    gc.collect()
    result = {"name": row.name, **_times(timing), **_memory(row, threads), "max_error": error}
    result |= {"goal": row.max_ratio, "goal_ms": row.max_ms}
    result |= {"memory_goal": row.max_memory_ratio, "peak_goal": row.min_peak_fraction}
    if is_slower_here(machine, row.products):
        result |= dict.fromkeys(("goal", "goal_ms", "peak_goal"))
    result |= {"threads": threads, "repeats": repeats or row.repeats}
    result["share_of_peak"] = None
    if row.products and scaled_flops:
        reached = scaled_flops / statistics.median(timing.ours) / 1e9
        result["share_of_peak"] = reached / attainable_peak(machine, row.products)
    notes = [row.note, library_note(machine, row.products)]
    return {**result, "note": "; ".join(filter(None, notes))}


def _measure_on_gpu(row: Row, machine: dict[str, Any], repeats: int) -> dict[str, Any]:
    """Run a row with both sides on the GPU, where the goal is to be no slower than the peer."""
    with use_threads(machine["threads"]):
        sides = row.prepare(device="cuda")
        error, flops = _first_calls(sides)
        time_sides(sides, WARM_UP, synchronized_clock)
        timing = time_sides(sides, repeats, synchronized_clock)
        peer = None if sides.peer is None else gpu_peak_memory_mb(sides.peer, "peer")
        ours = gpu_peak_memory_mb(sides.ours, "ours")
    result = {"name": row.name, **_times(timing), "goal": 1.0, "peer_mb": peer, "ours_mb": ours}
    result |= {"memory_ratio": ours / peer if peer else None, "max_error": error, "goal_ms": None, "memory_goal": None}
    result |= {"threads": machine["threads"], "repeats": repeats, "share_of_peak": None, "note": row.note}
    if row.products and flops:
        reached = flops * sides.ours_scale / statistics.median(timing.ours) / 1e9
        result["share_of_peak"] = reached / attainable_peak(machine, row.products)
    return result


def _first_calls(sides: Sides) -> tuple[float | None, int]:
    """Warm both sides up; return the error of our result and the number of our floating-point operations."""
    expected = None
    if sides.peer is not None:
        with matmul_precision("peer"):
            expected = sides.peer()
    with matmul_precision("ours"):
        got, flops = count_flops(sides.ours)
    error = None if sides.error is None else float(sides.error(expected, got))
    return error, flops


def _times(timing: Timing) -> dict[str, Any]:
    peer, ours = _milliseconds(timing.peer) if timing.peer else None, _milliseconds(timing.ours)
    return {
        "peer_ms": peer and peer[1],
        "ours_ms": ours[1],
        "ratio": timing.ratio,
        "peer_ms_range": peer and [peer[0], peer[2]],
        "ours_ms_range": [ours[0], ours[2]],
    }


def _milliseconds(seconds: Sequence[float]) -> tuple[float, float, float]:
    """Return minimum, median and maximum in milliseconds."""
    return 1e3 * min(seconds), 1e3 * statistics.median(seconds), 1e3 * max(seconds)


def _memory(row: Row, threads: int) -> dict[str, float | None]:
    if not row.memory:
        return {"peer_mb": None, "ours_mb": None, "memory_ratio": None}
    peer, ours = peak_memory_mb(row.prepare, "peer", threads), peak_memory_mb(row.prepare, "ours", threads)
    ratio = ours / peer if ours is not None and peer else None
    return {"peer_mb": peer, "ours_mb": ours, "memory_ratio": ratio}
