"""A model and a data set that train in seconds, with everything that a resume can get wrong.

Each loss is written to WORK_DIR/losses.txt as a hexadecimal float. As a script it runs several trainings one after the
other, each in a process that may be killed.
"""

import json
import os
import random
import signal
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel

from openvocab.datasets.base import PipelineDataset
from openvocab.engine.finite_guard import check_losses
from openvocab.engine.runner import build_runner
from openvocab.registry import DATASETS, HOOKS, METRICS, MODELS

SIZE = 22


@dataclass
class TinySample:
    """What the guard asks of a sample."""

    sample_id: str


class Augment:
    """Draw from all three generators."""

    def __call__(self, results):
        noise = torch.randn(8) * 0.1 + random.random() + float(np.random.rand())
        return {"x": results["x"] + noise, "y": results["x"].sum(), "sample": TinySample(results["sample_id"])}


@DATASETS.register_module()
class TinyDataset(PipelineDataset):
    """Vectors and their sums."""

    vocabulary = None

    def __init__(self, poison=None):
        super().__init__([Augment()])
        self.poison = poison

    def load_index(self):
        return [{"sample_id": f"item-{index}", "position": index} for index in range(SIZE)]

    def __getitem__(self, index):
        item = super().__getitem__(index)
        return {**item, "x": item["x"] * float("nan")} if index == self.poison else item

    def _make(self, position):
        generator = torch.Generator().manual_seed(position)
        return self.transforms[0]({**self._index[position], "x": torch.randn(8, generator=generator)})


@MODELS.register_module()
class TinyModel(BaseModel):
    """Batch norm and dropout between two linear layers."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(8, 16), torch.nn.BatchNorm1d(16), torch.nn.Dropout(0.3), torch.nn.Linear(16, 1)
        )

    def forward(self, x, y, sample, mode="loss"):
        predicted = self.layers(torch.stack(x))[:, 0]
        error = (predicted.float() - torch.stack(y)).square()
        return (
            {"loss_square": error.mean(), "loss_fourth": error.square().mean() * 0.01}
            if mode == "loss"
            else list(error)
        )

    def parse_losses(self, losses):
        check_losses(losses)
        return super().parse_losses(losses)


@METRICS.register_module()
class TinyMetric(BaseMetric):
    """Negative error, from an evaluation that draws random numbers."""

    default_prefix = ""

    def process(self, data_batch, data_samples):
        torch.rand(3), np.random.rand(), random.random()
        self.results += [-float(error) for error in data_samples]

    def compute_metrics(self, results):
        return {"mIoU": float(np.mean(results))}


@HOOKS.register_module()
class RecordLosses(Hook):
    """Write each loss at once, and die where asked to."""

    def __init__(self, kill_at=0):
        self.kill_at = kill_at

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        with open(Path(runner.work_dir) / "losses.txt", "a") as file:
            file.write(f"{runner.iter + 1} {float(outputs['loss'].detach()).hex()}\n")
        if runner.iter + 1 == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


def tiny_config(workers=0, max_iters=16, accumulate=1, ema=False, kill_at=0, poison=None):
    """Return a config of the tiny run: saves every 4 steps, validates every 6."""
    loader = dict(batch_size=4, num_workers=workers, persistent_workers=False)
    val_sampler = dict(type="DefaultSampler", shuffle=False)
    return Config(
        dict(
            model=dict(type="TinyModel"),
            train_dataloader=dict(dataset=dict(type="TinyDataset", poison=poison), **loader),
            val_dataloader=dict(dataset=dict(type="TinyDataset"), sampler=val_sampler, **loader),
            val_cfg=dict(),
            val_evaluator=dict(type="TinyMetric"),
            test_dataloader=dict(dataset=dict(type="TinyDataset"), sampler=val_sampler, **loader),
            test_cfg=dict(),
            test_evaluator=dict(type="TinyMetric"),
            train_cfg=dict(type="TrainLoop", max_iters=max_iters, val_interval=6),
            optim_wrapper=dict(
                type="SafeOptimWrapper",
                optimizer=dict(type="AdamW", lr=0.01, weight_decay=0.01),
                clip_grad=dict(max_norm=5.0),
                accumulative_counts=accumulate,
                paramwise_cfg=dict(norm_decay_mult=0.0),
            ),
            param_scheduler=[
                dict(type="LinearLR", start_factor=0.1, begin=0, end=3, by_epoch=False),
                dict(type="PolyLR", power=0.9, begin=3, end=max_iters, by_epoch=False),
            ],
            default_hooks=dict(
                checkpoint=dict(type="CheckpointHook", interval=4),
                logger=dict(type="LoggerHook", interval=100, log_metric_by_epoch=False),
            ),
            custom_hooks=[dict(type="RecordLosses", kill_at=kill_at)] + [dict(type="EMAHook", momentum=0.1)] * ema,
            log_processor=dict(by_epoch=False),
            log_level="WARNING",
            randomness=dict(seed=3),
        )
    )


def run(work_dir, resume=False, amp=None, launcher="none", **options):
    """Train in this process."""
    torch.set_num_threads(1)
    amp = {True: "bf16", False: None}.get(amp, amp)
    build_runner(tiny_config(**options), work_dir=work_dir, resume=resume, amp=amp, launcher=launcher).train()


def run_apart(**options):
    """Train in a copy of this process and return its exit status: negative = the signal that ended it."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            run(**options)
            status = 0
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main():
    """Run each of the trainings given as JSON, `[{"work_dir": ..., "workers": 2, ...}, ...]`; print their statuses."""
    print("STATUS", json.dumps([run_apart(**options) for options in json.loads(sys.argv[1])]))


if __name__ == "__main__":
    main()
