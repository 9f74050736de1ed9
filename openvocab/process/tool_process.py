"""Settings that the tools make for their process before torch is loaded; each tool imports this module first.

OpenMP reads its settings when it is loaded. No other module of openvocab changes them: the threads of a program that
uses the library are its own decision.
"""

import os
import sys

from openvocab.process.processor_cores import CHOICE, available_cores, busy_cores, visible_cores

SPIN_COUNT = 3000
"""Iterations that a thread spins for work before it sleeps. OpenMP's default of 300,000 starves other jobs on the core;
with none (`OMP_WAIT_POLICY=PASSIVE`) a training step takes 10 to 20 % longer, with this number it does not."""


def settle_openmp() -> None:
    """Choose the number of threads and how they wait, unless the user has; no effect once torch is loaded.

    One thread per free core: threads wait for each other hundreds of times per step, also within kernels, so that one
    which shares its core with another job delays all of them (next to one job on 2 cores, a step takes at least five
    times as long with 2 threads, and 1.6 times with 1 thread).
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
    """Return the number of free cores, and the reason. A quota grants time on any visible core, free or busy."""
    granted, visible = available_cores(), visible_cores()
    if granted == 1:
        return 1, "1 core granted"
    busy = busy_cores()
    limit = f", {granted} granted" if granted < visible else ""
    return max(1, min(granted, visible - busy)), f"{busy} of {visible} cores busy with other jobs{limit}"


settle_openmp()
