"""From a row to its line of the table."""

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
"""At least so many timed calls on a GPU, where most take milliseconds."""


def measure(row: Row, machine: dict[str, Any], repeats: int | None = None) -> dict[str, Any]:
    """Run a row.

    Args:
        machine: see `describe_machine`.
        repeats: instead of the row's own.

    Returns:
        plain values; milliseconds of the whole work, MB of peak memory above the start, None where not measured.
    """
    if machine.get("device") == "cuda":
        return _measure_on_gpu(row, machine, repeats or max(row.repeats, GPU_REPEATS))
    threads = row.threads or machine["threads"]
    with use_threads(threads):
        sides = row.prepare()
        error, flops = _first_calls(sides)
        timing = time_sides(sides, repeats or row.repeats)
    scaled_flops = flops * sides.ours_scale
    del sides
    gc.collect()
    result = {"name": row.name, **_times(timing), **_memory(row, threads), "max_error": error}
    result |= {"goal": row.goal, "goal_ms": row.goal_ms, "memory_goal": row.memory_goal, "peak_goal": row.peak_goal}
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
    """Run a row with both sides on the device; there its goal is to be no slower than its peer."""
    with use_threads(machine["threads"]):
        sides = row.prepare(device="cuda")
        error, flops = _first_calls(sides)
        time_sides(sides, WARM_UP, synchronized_clock)
        timing = time_sides(sides, repeats, synchronized_clock)
        peer, ours = (gpu_peak_memory_mb(work, side) for side, work in (("peer", sides.peer), ("ours", sides.ours)))
    result = {"name": row.name, **_times(timing), "goal": 1.0, "peer_mb": peer, "ours_mb": ours}
    result |= {"memory_ratio": ours / peer if peer else None, "max_error": error, "goal_ms": None, "memory_goal": None}
    result |= {"threads": machine["threads"], "repeats": repeats, "share_of_peak": None, "note": row.note}
    if row.products and flops:
        reached = flops * sides.ours_scale / statistics.median(timing.ours) / 1e9
        result["share_of_peak"] = reached / attainable_peak(machine, row.products)
    return result


def _first_calls(sides: Sides) -> tuple[float | None, int]:
    """Warm both sides up; return the error of ours and the operations it takes."""
    expected = None
    if sides.peer is not None:
        with matmul_precision("peer"):
            expected = sides.peer()
    with matmul_precision("ours"):
        got, flops = count_flops(sides.ours)
    error = None if sides.error is None else float(sides.error(expected, got))
    return error, flops


def _times(timing: Timing) -> dict[str, Any]:
    peer, ours = _milliseconds(timing.peer), _milliseconds(timing.ours)
    return {
        "peer_ms": peer and peer[1],
        "ours_ms": ours[1],
        "ratio": timing.ratio,
        "peer_ms_range": peer and [peer[0], peer[2]],
        "ours_ms_range": [ours[0], ours[2]],
    }


def _milliseconds(seconds: Sequence[float]) -> tuple[float, float, float] | None:
    """Return minimum, median and maximum in milliseconds."""
    if not seconds:
        return None
    return tuple(1e3 * value for value in (min(seconds), statistics.median(seconds), max(seconds)))


def _memory(row: Row, threads: int) -> dict[str, float | None]:
    peer = ours = ratio = None
    if row.memory:
        peer, ours = (peak_memory_mb(row.prepare, side, threads) for side in ("peer", "ours"))
        ratio = ours / peer if peer else None
    return {"peer_mb": peer, "ours_mb": ours, "memory_ratio": ratio}
