"""The config of one run: what the caller of `build_runner` decides, and the defaults that a config need not state."""

import os
import time
from pathlib import Path

from mmengine.config import Config

from openvocab.argument_checks import check_choice
from openvocab.config.options import AMP_CHOICES
from openvocab.registry import SCOPE


def set_run(
    config: Config,
    *,
    work_dir: str | Path | None,
    checkpoint: str | Path | None,
    resume: bool,
    launcher: str | None,
) -> None:
    """Write into a config what the caller of `build_runner` decides; see there for the arguments.

    Raises:
        OSError: the work dir cannot be written.
    """
    config.work_dir = str(work_dir or config.get("work_dir") or Path("work_dirs") / Path(config.filename or "run").stem)
    _check_writable(Path(config.work_dir))
    config.default_scope = SCOPE
    # mmengine shares logger and message hub among runs of one name, and its default name has a resolution of seconds
    config.experiment_name = f"{Path(config.work_dir).name}_{time.time_ns() % 10**9:09d}"
    config.resume = resume
    config.load_from = str(checkpoint) if checkpoint is not None else config.get("load_from")
    config.launcher = launcher or config.get("launcher", "none")


def complete_training(config: Config, amp: str | None = None) -> None:
    """Add the defaults that the config of a training run need not state; `amp` as in `build_runner`.

    Raises:
        ValueError: an unknown `amp`.
    """
    check_choice("amp", amp, (*AMP_CHOICES, None))
    config.train_cfg.setdefault("type", "TrainLoop")
    if config.get("val_cfg") is not None:
        config.val_cfg.setdefault("type", "ValLoop")
    config.train_dataloader.setdefault("sampler", dict(type="ResumableSampler", shuffle=True))
    config.optim_wrapper.setdefault("type", "SafeOptimWrapper")
    config.optim_wrapper.setdefault("constructor", "GroupedOptimConstructor")
    length = config.get("run_length")
    if length is not None and length.get("minutes") is not None:
        hook = dict(type="TimeBudgetHook", length=dict(length))
        others = [one for one in config.get("custom_hooks") or [] if one.get("type") != hook["type"]]
        config.custom_hooks = [*others, hook]  # a config that a run has written holds one already
    stopping = config.pop("early_stopping", None)
    if stopping:
        config.custom_hooks = [*(config.get("custom_hooks") or []), dict(type="EarlyStoppingHook", **stopping)]
    if amp is not None:
        config.optim_wrapper.amp = None if amp == "off" else amp


def drop_training(config: Config) -> None:
    """Drop the parts of training and validation, so that a test builds neither their data nor an optimizer."""
    training = ("train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler")
    validation = ("val_dataloader", "val_cfg", "val_evaluator")
    for key in (*training, *validation):
        config.pop(key, None)


def _check_writable(folder: Path) -> None:
    """Fail before the work, not after it."""
    probe = folder / f".writable.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink(missing_ok=True)  # a process on another machine may have the same id
    except OSError as error:
        raise OSError(f"cannot write to the work dir {folder}: {error.strerror}") from error
