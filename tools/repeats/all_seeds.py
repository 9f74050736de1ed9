"""The runs of all seeds, one after the other or side by side."""

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
    """Do what is left of every run, and say on stderr what is done and the time that is left.

    After a failure or a signal no further run starts, and those that run are asked to end; what they have saved is
    kept. A second signal ends them at once.

    Args:
        jobs: runs side by side.

    Raises:
        ToolFailed: a tool failed.
        Stopped: by a signal, after the end of all runs.
    """
    processes = Processes()
    left = [run for run in runs if not run.is_finished]
    say(f"{len(runs) - len(left)} of {len(runs)} seeds are done already\n")
    start = time.monotonic()
    with ThreadPoolExecutor(jobs) as pool:
        futures = {pool.submit(_run, run, processes): run for run in left}
        try:
            for done, future in enumerate(as_completed(futures), 1):
                future.result()
                passed = time.monotonic() - start
                say(f"{_progress(futures[future].seed, done, len(left), passed)}\n")
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


def _progress(seed: int, done: int, total: int, passed: float) -> str:
    rest = passed / done * (total - done)
    left = f"{total - done} left, about {minutes(rest)} min" if done < total else f"all done in {minutes(passed)} min"
    return f"seed {seed} is done; {left}"


def _environment(run: SeedRun) -> dict[str, str]:
    """Return the environment of a run's tools: its share of the threads, where several runs share them."""
    threads = {"OMP_NUM_THREADS": str(run.machine["threads"])} if run.machine["jobs"] > 1 else {}
    return {**os.environ, **threads, "PYTHONUNBUFFERED": "1"}
