"""Peak memory of one side of a row, in a process of its own."""

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
    """Return by how many MB the resident memory of a new process peaks during one call; None where only Linux knows.

    Raises:
        BrokenProcessPool: the process was killed, most often for want of memory.
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
    return int(re.search(rf"^{name}:\s+(\d+) kB", STATUS.read_text(), re.MULTILINE)[1]) / 1024
