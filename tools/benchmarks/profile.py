"""Where our side of a row spends its time, by torch's profiler."""

from typing import Any

from torch.autograd.profiler_util import EventList
from torch.profiler import ProfilerActivity, profile

from benchmarks.comparison import Row, Work, matmul_precision, use_threads

OPERATORS = 6
"""Number of operators that are named; the others are summed up."""


def profile_line(row: Row, machine: dict[str, Any]) -> str:
    """Return a line with the fractions of the time that the operators of our side take in one call, after a warm-up."""
    on_gpu = machine.get("device") == "cuda"
    with use_threads(row.threads or machine["threads"]), matmul_precision("ours"):
        work = row.prepare(**{"device": "cuda"} if on_gpu else {}).ours
        fractions = operator_fractions(work, on_gpu)
    named = [f"{name} {fraction:.1%}" for name, fraction in fractions[:OPERATORS]]
    rest = sum(fraction for _, fraction in fractions[OPERATORS:])
    return f"{row.name}: {', '.join([*named, f'the rest {rest:.1%}'])}"


def operator_fractions(work: Work, on_gpu: bool = False) -> list[tuple[str, float]]:
    """Return (operator, its fraction of the time spent in operators), largest first.

    The time of an operator excludes the operators that it calls; the time of Python and NumPy between operators is not
    counted.
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
