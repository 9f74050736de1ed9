"""What our own tools set for their process before torch is loaded; each imports this module first.

OpenMP reads its settings when it is loaded. Importing anything else of openvocab sets none: the threads of a program
that uses it are its own business.
"""

import os
import sys

from openvocab.process.processor_cores import CHOICE, available_cores, busy_cores, visible_cores

SPIN_COUNT = 3000
"""Turns that a thread looks for work before it sleeps. OpenMP's own 300,000 starve whatever shares the core; asleep at
once (`OMP_WAIT_POLICY=PASSIVE`) a training step takes 10 to 20 % longer; with this number it does not."""


def settle_openmp() -> None:
    """Choose the number of threads and how they wait, unless the user has; too late once torch is loaded.

    A thread for each core that is free: threads wait for each other some hundred times a step, in the kernels' own
    barriers too, so that one which shares its core with another job holds up all (2 threads beside one job on 2 cores:
    a step takes five times as long and more, with 1 thread 1.6 times).
    """
    if "torch" in sys.modules:
        return
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = str(SPIN_COUNT)
    if "OMP_NUM_THREADS" not in os.environ:
        threads, reason = _free_cores()
        os.environ["OMP_NUM_THREADS"] = str(threads)
        os.environ[CHOICE] = f"{reason}; OMP_NUM_THREADS changes it"


def _free_cores() -> tuple[int, str]:
    """Return how many cores are free, and why so many. A quota is time on any of the visible ones, also beside jobs."""
    granted, visible = available_cores(), visible_cores()
    if granted == 1:
        return 1, "1 core granted"
    busy = busy_cores()
    limit = f", {granted} granted" if granted < visible else ""
    return max(1, min(granted, visible - busy)), f"{busy} of {visible} cores busy with other jobs{limit}"


settle_openmp()
