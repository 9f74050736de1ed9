"""Count the processor cores that this process may use, and those that other jobs keep busy."""

import os
import time
from collections.abc import Collection
from pathlib import Path

CHOICE = "OPENVOCAB_THREADS_CHOSEN"
"""Environment variable in which the tools record the reason for their number of threads."""
WINDOWS, SECONDS = 3, 0.2
"""Number of intervals in which a core must be busy to count, and their length in seconds: short bursts are ignored."""
TOLERANCE = 0.3
"""How much less than one busy core still counts as one: 0.7 busy cores are one."""


def available_cores() -> int:
    """Return the number of cores that the affinity mask and the container's CPU quota allow, at least 1."""
    quotas = [visible_cores(), *filter(None, map(_quota, _control_groups()))]
    return max(1, int(min(quotas)))


def visible_cores() -> int:
    """Return the number of cores in the affinity mask; a quota may grant the time of fewer."""
    return len(_affinity())


def busy_cores() -> int:
    """Return how many of the visible cores other processes keep busy; takes 0.2 s if there are none, else 0.6 s.

    This process sleeps meanwhile, so that all measured work is that of others.
    """
    cores = _affinity()
    least = float(len(cores))
    for _ in range(WINDOWS):
        least = min(least, _mean_busy(cores))
        if least < 1 - TOLERANCE:
            return 0
    return int(least + TOLERANCE)


def _affinity() -> Collection[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return range(os.cpu_count() or 1)  # not Linux


def _control_groups() -> list[Path]:
    """Return the folders that may hold a quota: this process's group, its parents, and that of cgroup version 1."""
    root = Path("/sys/fs/cgroup")
    try:
        (own,) = [line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::")]
    except (OSError, ValueError):  # not Linux, or version 1
        return [root, root / "cpu"]
    path = root / own.lstrip("/")
    return [path, *(parent for parent in path.parents if parent.is_relative_to(root)), root / "cpu"]


def _quota(folder: Path) -> float | None:
    """Return the number of cores that a control group grants, None if there is no limit."""
    try:
        if (folder / "cpu.max").is_file():
            granted, period = (folder / "cpu.max").read_text().split()
        else:
            granted, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return int(granted) / int(period) if int(granted) > 0 else None
    except (OSError, ValueError):  # no such file; "max"
        return None


def _mean_busy(cores: Collection[int]) -> float:
    """Return the mean number of busy `cores` over `SECONDS`."""
    busy_at_start, started = _busy_seconds(cores), time.perf_counter()
    time.sleep(SECONDS)
    return (_busy_seconds(cores) - busy_at_start) / (time.perf_counter() - started)


def _busy_seconds(cores: Collection[int]) -> float:
    """Return the processor time in seconds of all processes on `cores`, 0 if the system does not report it."""
    try:
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return 0.0
    ticks = 0
    for name, *fields in (line.split() for line in lines if line.startswith("cpu")):
        if name.removeprefix("cpu").isdigit() and int(name.removeprefix("cpu")) in cores:
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[:8])
            ticks += user + nice + system + irq + softirq + steal
    return ticks / os.sysconf("SC_CLK_TCK")
