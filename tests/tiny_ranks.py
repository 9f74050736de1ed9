"""One rank of a tiny distributed training; see test_distributed_training.py."""

import argparse
import atexit
import os
import signal
import time
from pathlib import Path

import torch
from mmengine.hooks import Hook
from tiny_run import tiny_config

from openvocab.engine.run_length import bound_minutes
from openvocab.engine.runner import build_runner
from openvocab.registry import HOOKS

RANK = int(os.environ["RANK"])


@HOOKS.register_module()
class WatchRank(Hook):
    """Write down this rank's samples; spoil one batch of one rank, or lose a rank, where asked to."""

    def __init__(self, folder, poison_rank, hang_rank):
        self.folder, self.poison_rank, self.hang_rank = Path(folder), poison_rank, hang_rank

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        with open(self.folder / f"samples_{RANK}.txt", "a") as file:
            file.write(" ".join(sample.sample_id for sample in data_batch["sample"]) + " ")
        if RANK == self.poison_rank and runner.iter == 4:
            data_batch["x"][0] *= float("nan")
        if RANK == self.hang_rank and runner.iter == 4:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # or torchrun waits half a minute for it to save
            time.sleep(600)


def train(folder, name, max_iters, resume, poison_rank, hang_rank=None):
    config = tiny_config(max_iters=max_iters)
    config.param_scheduler = None  # its length would differ between the parts
    config.custom_hooks = [dict(type="WatchRank", folder=str(folder), poison_rank=poison_rank, hang_rank=hang_rank)]
    if hang_rank is not None:
        config.env_cfg = dict(dist_cfg=dict(backend="nccl", timeout=5))
    runner = build_runner(config, work_dir=folder / name, resume=resume, launcher="pytorch")
    runner.train()
    parameters = {key: value.detach().cpu() for key, value in runner.model.module.named_parameters()}
    torch.save(parameters, folder / f"{name}_{RANK}.pt")


def train_for(folder, minutes):
    """Train for a number of minutes; the steps of the second rank take longer, and its clock is another."""
    config = tiny_config(max_iters=20_000, val_interval=2_000, hooks=[dict(type="SlowRank")])
    bound_minutes(config, minutes)
    runner = build_runner(config, work_dir=folder / "bounded", launcher="pytorch")
    runner.train()
    (folder / f"length_{RANK}.txt").write_text(f"{runner.iter} {runner.max_iters} {runner.val_interval}")


@HOOKS.register_module()
class SlowRank(Hook):
    """Let one rank be late."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        time.sleep(0.005 * RANK)


def write_threads(folder):
    """The names of this process's threads, on Linux; registered first, called last."""
    names = [(task / "comm").read_text() for task in Path("/proc/self/task").glob("*")]
    (folder / f"threads_{RANK}.txt").write_text("".join(names))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    for name in ("--max-iters", "--resume-to", "--whole", "--poison-rank", "--hang-rank"):
        parser.add_argument(name, type=int)
    parser.add_argument("--minutes", type=float)
    options = parser.parse_args()
    if options.minutes:
        return train_for(options.folder, options.minutes)
    atexit.register(write_threads, options.folder)
    if options.whole:
        train(options.folder, "whole", options.whole, False, None)
    train(options.folder, "parts", options.max_iters, False, options.poison_rank, options.hang_rank)
    if options.resume_to:
        train(options.folder, "parts", options.resume_to, True, None)


if __name__ == "__main__":
    main()
