"""Peak memory of one side of a row, measured in a separate process."""

import gc
import multiprocessing
import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from benchmarks.comparison import Side, Sides, matmul_precision, use_threads

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
RESET_PEAK = "5"


def peak_memory_mb(prepare: Callable[[], Sides], side: Side, threads: int) -> float | None:
    """Return the peak of a new process's resident memory during one call, in MB above the start; None except on Linux.

    Raises:
        BrokenProcessPool: the process was killed, most often because memory ran out.
    """
    if not CLEAR.exists():
        return None
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_measure, prepare, side, threads).result()


def _measure(prepare: Callable[[], Sides], side: Side, threads: int) -> float:
    with use_threads(threads), matmul_precision(side):
        work = getattr(prepare(), side)
        gc.collect()
        start = _status_mb("VmRSS")
        CLEAR.write_text(RESET_PEAK)
        work()
        return _status_mb("VmHWM") - start


def _status_mb(name: str) -> float:
    """Return an entry of the process's status: VmRSS (resident now) or VmHWM (its peak)."""
    entry = re.search(rf"^{name}:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)
    if entry is None:
        raise RuntimeError(f"{STATUS} has no entry {name}")
    return int(entry[1]) / 1024
