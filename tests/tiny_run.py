"""A model and a dataset that train in seconds, with everything that a resume can get wrong.

Each loss is written to WORK_DIR/losses.txt as a hexadecimal float. As a script it runs several trainings one after the
other, each in a process that may be killed.
"""

import contextlib
import json
import os
import random
import resource
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from multiprocessing import active_children
from pathlib import Path

import matplotlib.pyplot  # noqa: F401  a training imports these three as it goes: here once for all its copies
import mmcv.transforms  # noqa: F401
import numpy as np
import torch
import torch._dynamo
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from torch.utils.data import get_worker_info

from openvocab.command_line import one_line_errors
from openvocab.datasets.base import PipelineDataset
from openvocab.engine.runner import build_runner
from openvocab.finite_guard import check_losses
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


def cause_trouble(kind, index):
    """Let a loader worker fail in one of the ways in which they fail."""
    if kind == "hang":
        time.sleep(600)
    elif kind == "raise":
        raise ZeroDivisionError("nothing to divide by")
    elif kind == "exit":
        os._exit(3)
    elif kind == "signal parent":
        main = os.getpid() if get_worker_info() is None else os.getppid()
        os.kill(main, signal.SIGTERM)
        time.sleep(0.2)
    else:
        os.kill(os.getpid(), getattr(signal, kind))


@DATASETS.register_module()
class TinyDataset(PipelineDataset):
    """Vectors and their sums."""

    vocabulary = None

    def __init__(self, poison=None, trouble=None):
        super().__init__([Augment()])
        self.poison = poison
        self.trouble = trouble

    def load_index(self):
        return [{"sample_id": f"item-{index}", "position": index} for index in range(SIZE)]

    def __getitem__(self, index):
        item = super().__getitem__(index)
        return {**item, "x": item["x"] * float("nan")} if index == self.poison else item

    def _make(self, position):
        if self.trouble is not None and position == self.trouble["index"]:
            cause_trouble(**self.trouble)
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


@HOOKS.register_module()
class SendSignal(Hook):
    """Send this process, or its whole group, a signal in the middle of something; twice if asked to.

    Args:
        moment: name of the hook's stage, or "compute_metrics".
        step: of the run, or more.
        apart: seconds between two of them.
    """

    def __init__(self, moment, step=0, name="SIGTERM", group=False, times=1, apart=0.0):
        self.step, self.name, self.group, self.times, self.apart = step, name, group, times, apart
        if moment == "compute_metrics":
            compute = TinyMetric.compute_metrics
            TinyMetric.compute_metrics = lambda metric, results: self.send() or compute(metric, results)
        else:
            setattr(self, moment, self.on_stage)

    def on_stage(self, runner, **_):
        if runner.iter >= self.step:
            self.send()

    def send(self):
        for _ in range(self.times):
            (os.killpg if self.group else os.kill)(0 if self.group else os.getpid(), getattr(signal, self.name))
            time.sleep(self.apart)
        self.times = 0


@HOOKS.register_module()
class FullDisk(Hook):
    """Let this process write no file above a kilobyte from one step to another, as a full disk would."""

    def __init__(self, first, last):
        self.first, self.last = first, last

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 in (self.first, self.last):
            _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000 if runner.iter + 1 == self.first else hard, hard))


@HOOKS.register_module()
class BreakGradient(Hook):
    """Let the gradient of one step be NaN, though its loss is not."""

    def __init__(self, step):
        self.step = step

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter + 1 == self.step:
            weight = next(runner.model.parameters())
            self.handle = weight.register_hook(lambda gradient: gradient * float("nan"))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.step:
            self.handle.remove()


@HOOKS.register_module()
class Measure(Hook):
    """Write resident memory in MiB, open files and child processes every 20 steps."""

    def after_step(self, runner):
        if runner.iter % 20 == 0:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            numbers = [pages * resource.getpagesize() / 2**20, len(os.listdir("/proc/self/fd")), len(active_children())]
            with open(Path(runner.work_dir) / "measured.txt", "a") as file:
                file.write(json.dumps(numbers) + "\n")


def tiny_config(
    workers=0, max_iters=16, accumulate=1, ema=False, kill_at=0, poison=None, trouble=None, val_trouble=None, send=None,
    timeout=None, hooks=(), interval=4, tensorboard=False, verbose=False, **train_cfg,
):  # fmt: skip
    """Return a config of the tiny run: saves every 4 steps, validates every 6."""
    loader = dict(batch_size=4, num_workers=workers, persistent_workers=False)
    if timeout is not None:
        loader["timeout"] = timeout
    val_sampler = dict(type="DefaultSampler", shuffle=False)
    return Config(
        dict(
            model=dict(type="TinyModel"),
            train_dataloader=dict(dataset=dict(type="TinyDataset", poison=poison, trouble=trouble), **loader),
            val_dataloader=dict(dataset=dict(type="TinyDataset", trouble=val_trouble), sampler=val_sampler, **loader),
            val_cfg=dict(),
            val_evaluator=dict(type="TinyMetric"),
            test_dataloader=dict(dataset=dict(type="TinyDataset"), sampler=val_sampler, **loader),
            test_cfg=dict(),
            test_evaluator=dict(type="TinyMetric"),
            train_cfg=dict(type="TrainLoop", max_iters=max_iters, **{"val_interval": 6, **train_cfg}),
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
                checkpoint=dict(type="CheckpointHook", interval=interval),
                logger=dict(type="LoggerHook", interval=1 if verbose else 100, log_metric_by_epoch=False),
            ),
            custom_hooks=[dict(type="RecordLosses", kill_at=kill_at)]
            + [dict(type="EMAHook", momentum=0.1)] * ema
            + ([dict(type="SendSignal", **send)] if send else [])
            + list(hooks),
            log_processor=dict(by_epoch=False),
            log_level="INFO" if verbose else "WARNING",
            visualizer=dict(type="Visualizer", vis_backends=[dict(type="TensorboardVisBackend")])
            if tensorboard
            else None,
            randomness=dict(seed=3),
        ),
        format_python_code=False,  # the formatter would take a third of the time of a run
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
        os.setpgid(0, 0)
        status = 1
        try:
            with one_line_errors():
                run(**options)
            status = 0
        except SystemExit as end:
            status = end.code
        except Exception:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    patience = time.monotonic() + 2  # one that was just killed
    while processes_of_group(child) and time.monotonic() < patience:
        time.sleep(0.02)
    print("LEFT BEHIND", processes_of_group(child), flush=True)
    return status


def processes_of_group(group):
    """Return the ids of the living processes of a process group."""
    fields = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            fields[path.parent.name] = path.read_text().rpartition(") ")[2].split()
    return [int(pid) for pid, (state, _, of, *_) in fields.items() if int(of) == group and state != "Z"]


def main():
    """Run each of the trainings given as JSON, `[{"work_dir": ..., "workers": 2, ...}, ...]`; print their statuses."""
    statuses = []
    for options in json.loads(sys.argv[1]):
        statuses.append(run_apart(**options))
        print("ENDED", flush=True)
    print("STATUS", json.dumps(statuses))


if __name__ == "__main__":
    main()
