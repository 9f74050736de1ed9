"""Where the time of our side of a row goes, by torch's profiler."""

from typing import Any

from torch.autograd.profiler_util import EventList
from torch.profiler import ProfilerActivity, profile

from benchmarks.comparison import Row, Work, matmul_precision, use_threads

OPERATORS = 6
"""So many are named; the rest is one figure."""


def profile_line(row: Row, machine: dict[str, Any]) -> str:
    """Return the shares of the operators of our side in one call, after one that warms it up."""
    on_gpu = machine.get("device") == "cuda"
    with use_threads(row.threads or machine["threads"]), matmul_precision("ours"):
        work = row.prepare(**{"device": "cuda"} if on_gpu else {}).ours
        shares = operator_shares(work, on_gpu)
    named = [f"{name} {share:.1%}" for name, share in shares[:OPERATORS]]
    rest = sum(share for _, share in shares[OPERATORS:])
    return f"{row.name}: {', '.join([*named, f'the rest {rest:.1%}'])}"


def operator_shares(work: Work, on_gpu: bool = False) -> list[tuple[str, float]]:
    """Return (operator, its share of the time spent in operators), greatest first.

    An operator's time leaves out the operators that it calls; what Python and NumPy do between them is not counted.
    """
    work()
    activities = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * on_gpu]
    with profile(activities=activities) as profiler:
        work()
    times = _self_times(profiler.key_averages(), on_gpu)
    total = sum(times.values()) or 1.0
    return sorted(((name, time / total) for name, time in times.items()), key=lambda pair: -pair[1])


def _self_times(events: EventList, on_gpu: bool) -> dict[str, float]:
    return {event.key: event.self_device_time_total if on_gpu else event.self_cpu_time_total for event in events}
