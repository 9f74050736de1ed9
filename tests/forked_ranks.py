"""Ranks as forked processes, without a launcher that ends the others when one is lost.

python forked_ranks.py '[{"work_dir": ..., "world_size": 2, "kill": {"rank": 1, "moment": "forward", "step": 6}}, ...]'
prints, for each training, the exit status of each rank, and the seconds until the last one ended.
"""

import json
import os
import runpy
import signal
import socket
import sys
import time
import traceback
from pathlib import Path

import torch
from mmengine.hooks import Hook
from tiny_run import TinyMetric, tiny_config

from openvocab.command_line import one_line_errors
from openvocab.config.config import read_config
from openvocab.engine.run_length import bound_minutes
from openvocab.engine.runner import build_runner
from openvocab.registry import HOOKS

TIMEOUT = 6
"""Seconds that a rank waits for a lost one."""
HANG = 2 * TIMEOUT
"""Seconds that a rank hangs, which the others do not wait for."""


def kill_self(*_):
    os.kill(os.getpid(), signal.SIGKILL)


@HOOKS.register_module()
class LoseRank(Hook):
    """Let this rank be killed in the middle of a forward pass, the gathering of scores, or a save, or after a hang."""

    def __init__(self, moment, step):
        self.moment, self.step = moment, step

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if self.moment == "forward" and runner.iter + 1 == self.step:
            next(runner.model.modules()).register_forward_pre_hook(kill_self)
        if self.moment == "hang" and runner.iter + 1 == self.step:
            time.sleep(HANG)
            kill_self()

    def before_val(self, runner):
        if self.moment == "gather":
            TinyMetric.evaluate = kill_self

    def before_save_checkpoint(self, runner, checkpoint):
        if self.moment == "save" and runner.iter >= self.step:
            kill_self()


@HOOKS.register_module()
class SpoilBatch(Hook):
    """Let one batch of this rank be NaN."""

    def __init__(self, step):
        self.step = step

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 == self.step:
            data_batch["x"][0] *= float("nan")


@HOOKS.register_module()
class SlowRank(Hook):
    """Let the second rank be late."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        time.sleep(0.005 * int(os.environ["RANK"]))


@HOOKS.register_module()
class Interrupt(Hook):
    """Send this rank alone a signal."""

    def __init__(self, step):
        self.step = step

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


def trouble_of(rank, kill=None, interrupt=None, spoil_rank=None, break_rank=None):
    """Return the hooks that make trouble on this rank."""
    if kill is not None and rank == kill.pop("rank"):
        return [dict(type="LoseRank", **kill)]
    if interrupt is not None and rank == interrupt.pop("rank"):
        return [dict(type="Interrupt", **interrupt)]
    if rank == spoil_rank:
        return [dict(type="SpoilBatch", step=5)]
    return [dict(type="BreakGradient", step=5)] if rank == break_rank else []


def train(
    rank, work_dir, resume=False, minutes=None, poison_rank=None, kill=None, interrupt=None, spoil_rank=None,
    break_rank=None, **options,
):  # fmt: skip
    hooks = trouble_of(rank, kill, interrupt, spoil_rank, break_rank)
    config = tiny_config(**options)
    config.custom_hooks = hooks
    config.env_cfg = dict(dist_cfg=dict(backend="nccl", timeout=TIMEOUT))
    if minutes is None:
        config.param_scheduler = None  # its length would differ between the parts
    else:
        config.custom_hooks = [dict(type="SlowRank")]
        bound_minutes(config, minutes)
    if rank == poison_rank:
        config.train_dataloader.dataset.poison = 5
    runner = build_runner(config, work_dir=work_dir, resume=resume, launcher="pytorch")
    runner.train()
    weights = {name: value.clone() for name, value in runner.model.module.named_parameters()}
    torch.save(weights, Path(work_dir) / f"rank_{rank}.pt")
    (Path(work_dir) / f"length_{rank}.txt").write_text(f"{runner.iter} {runner.max_iters} {runner.val_interval}")


def run_rank(rank, port, world_size, tool=None, **options):
    """Be one rank: of a tiny training, or of a tool with its command line."""
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world_size), LOCAL_WORLD_SIZE="1")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    with one_line_errors():
        if tool is None:
            train(rank, **options)
        else:
            sys.argv = tool
            runpy.run_path(tool[0], run_name="__main__")


def run_ranks(world_size=2, **options):
    """Fork the ranks, wait for all, and return their statuses and how long it took."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start, children = time.monotonic(), []
    for rank in range(world_size):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                run_rank(rank, port, world_size, **options)
                status = 0
            except SystemExit as end:
                status = end.code or 0
            except Exception:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                os._exit(status)
        children.append(child)
    statuses = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    return {"statuses": statuses, "seconds": time.monotonic() - start}


def main():
    results, runs = [], json.loads(sys.argv[1])
    for config in {run["tool"][1] for run in runs if "tool" in run}:
        read_config(config)  # imports what it is built from, once for all ranks
    for options in runs:
        results.append(run_ranks(**options))
        sys.stdout.write("ENDED\n")
        sys.stdout.flush()
    sys.stdout.write(f"RESULTS {json.dumps(results)}\n")


if __name__ == "__main__":
    main()
