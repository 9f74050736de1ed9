"""Run all seeds, one after the other or several at the same time."""

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

from openvocab.command_line import say, second_stop
from openvocab.engine.stopping import Stopped
from repeats.processes import Processes
from repeats.seed_run import SeedRun
from repeats.summary import minutes


def run_all(runs: Sequence[SeedRun], jobs: int) -> None:
    """Do the remaining work of every run, and report the progress and the remaining time on stderr.

    After a failure or a signal, no further run starts, and those in progress are asked to end; what they have saved is
    kept. A second signal ends them at once.

    Args:
        runs: one per seed.
        jobs: number of runs at the same time.

    Raises:
        ToolFailed: a tool failed.
        Stopped: a signal came; all runs have ended.
    """
    processes = Processes()
    unfinished = [run for run in runs if not run.is_finished]
    say(f"{len(runs) - len(unfinished)} of {len(runs)} seeds are done already\n")
    start = time.monotonic()
    with ThreadPoolExecutor(jobs) as pool:
        futures = {pool.submit(_run, run, processes): run for run in unfinished}
        try:
            for done, future in enumerate(as_completed(futures), 1):
                future.result()
                seconds = time.monotonic() - start
                say(f"{_progress(futures[future].seed, done, len(unfinished), seconds)}\n")
        except BaseException as error:
            processes.stop()
            if isinstance(error, Stopped):
                with second_stop(processes.kill):
                    pool.shutdown()
            raise


def _run(run: SeedRun, processes: Processes) -> None:
    if processes.are_stopped:
        return
    try:
        run.run(processes, _environment(run))
    except Exception:
        processes.stop()  # here, before this thread takes the next run
        raise


def _progress(seed: int, done: int, total: int, seconds: float) -> str:
    if done == total:
        return f"seed {seed} is done; all done in {minutes(seconds)} min"
    remaining = seconds / done * (total - done)
    return f"seed {seed} is done; {total - done} left, about {minutes(remaining)} min"


def _environment(run: SeedRun) -> dict[str, str]:
    """Return the environment of a run's tools, with its part of the threads if several runs share them."""
    threads = {"OMP_NUM_THREADS": str(run.machine["threads"])} if run.machine["jobs"] > 1 else {}
    return {**os.environ, **threads, "PYTHONUNBUFFERED": "1"}
