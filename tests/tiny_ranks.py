"""One rank of a tiny distributed training, whole and in parts; see test_distributed_training.py."""

import atexit
import os
import sys
from pathlib import Path

import torch
from mmengine.hooks import Hook
from tiny_run import tiny_config

from openvocab.engine.runner import build_runner
from openvocab.registry import HOOKS

RANK = int(os.environ["RANK"])


@HOOKS.register_module()
class WatchRank(Hook):
    """Write down this rank's samples."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        with open(self.folder / f"samples_{RANK}.txt", "a") as file:
            file.write(" ".join(sample.sample_id for sample in data_batch["sample"]) + " ")


def train(folder, name, max_iters, resume=False):
    config = tiny_config(max_iters=max_iters)
    config.param_scheduler = None  # its length would differ between the parts
    config.custom_hooks = [dict(type="WatchRank", folder=str(folder))]
    runner = build_runner(config, work_dir=folder / name, resume=resume, launcher="pytorch")
    runner.train()
    parameters = {key: value.detach().cpu() for key, value in runner.model.module.named_parameters()}
    torch.save(parameters, folder / f"{name}_{RANK}.pt")


def write_threads(folder):
    """The names of this process's threads, on Linux; registered first, called last."""
    names = [(task / "comm").read_text() for task in Path("/proc/self/task").glob("*")]
    (folder / f"threads_{RANK}.txt").write_text("".join(names))


def main():
    folder = Path(sys.argv[1])
    atexit.register(write_threads, folder)
    train(folder, "whole", 10)
    train(folder, "parts", 6)
    train(folder, "parts", 10, resume=True)


if __name__ == "__main__":
    main()
