"""How long a run trains, as a number of passes over its images or of minutes: the setting `run_length` of a config.

The schedules of such a config are written for a run of `run_length["schedule"]` iterations, and are stretched to the
length of the run, so that it ends at the learning rate that they end at.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmengine.runner import Runner
from mmengine.runner.utils import calc_dynamic_intervals
from torch.utils.data import DataLoader

from openvocab.argument_checks import argument_group, check_number
from openvocab.checkpoint.checkpoint import load_checkpoint
from openvocab.config.config import ConfigError
from openvocab.config.saved import config_to_data
from openvocab.engine.training_plan import replay, training_plan

logger = logging.getLogger(__name__)

STORED = "run_length"
"""Entry of a checkpoint: a `LengthState` as a dict, if the run has a bound on its time."""
_STRETCHED = ("begin", "end", "milestones")
_COUNTED = ("T_max", "step_size", "total_steps", "periods")
"""Arguments of mmengine's schedulers that count iterations, too, and are not stretched."""


@dataclass(frozen=True)
class RunLength:
    """The setting `run_length`: the length of a run, relative to what the config's schedules are written for.

    Raises:
        ValueError: a number out of range, or neither `passes` nor `minutes`.
    """

    schedule: int
    """Number of iterations for which the `begin`, `end` and `milestones` of `param_scheduler` are written."""
    passes: float | None = None
    """How often the run sees each image, on average."""
    min_iters: int = 2
    """Least number of iterations, for few images."""
    max_iters: int | None = None
    """Largest number of iterations, for many images."""
    validations: int = 8
    """Number of validations, evenly spaced; the last one is at the end."""
    minutes: float | None = None
    """Largest duration of the training, with its validations. A run of `passes` that would take longer is shortened."""

    def __post_init__(self) -> None:
        check_number("run_length.schedule", self.schedule, 2, whole=True)
        check_number("run_length.min_iters", self.min_iters, 2, whole=True)
        check_number("run_length.max_iters", self.max_iters, 2, whole=True, optional=True)
        check_number("run_length.validations", self.validations, 1, whole=True)
        for name in ("passes", "minutes"):
            value = getattr(self, name)
            check_number(f"run_length.{name}", value, optional=True)
            if value is not None and value <= 0:
                raise ValueError(f"run_length.{name}: expected more than 0, got {value}")
        if self.passes is None and self.minutes is None and self.max_iters is None:
            raise ValueError("run_length: expected passes, minutes or max_iters, got none of them")
        if self.max_iters is not None and self.max_iters < self.min_iters:
            raise ValueError(
                f"run_length.max_iters: expected at least min_iters={self.min_iters}, got {self.max_iters}"
            )


@dataclass(frozen=True)
class LengthState:
    """What a run knows about its own length, as a checkpoint stores it."""

    iters: int
    """Number of iterations."""
    val_interval: int
    """Iterations between validations."""
    longest: int
    """Number of iterations without a bound on the time."""
    seconds: float = 0.0
    """Duration of the training when this process began with it."""
    is_decided: bool = False
    """Whether measured time has decided on `iters`."""


def run_length_of(config: Mapping[str, Any]) -> RunLength | None:
    """Return the setting `run_length` of a config, None if it has none.

    Raises:
        ConfigError: `train_cfg` states a number of iterations, too.
        TypeError, ValueError: see `RunLength` and `argument_group`.
    """
    given = config.get("run_length")
    if given is None:
        return None
    if "max_iters" in config.get("train_cfg", {}):
        raise ConfigError(
            "run_length and train_cfg.max_iters both state how long to train; set run_length=None, or delete "
            "max_iters from train_cfg"
        )
    return argument_group("run_length", dict(given), RunLength)


def bound_minutes(config: Any, minutes: float) -> None:
    """Let the run of a config end after a number of minutes, if it would take longer.

    Args:
        config: changed in place: its number of iterations becomes the setting `run_length`.
        minutes: duration of the training, with its validations.

    Raises:
        ConfigError: the config states no length.
    """
    if config.get("run_length") is None:
        iters = config.train_cfg.pop("max_iters", None)
        if not isinstance(iters, int):
            raise ConfigError(f"minutes: the config states no number of iterations, train_cfg.max_iters is {iters!r}")
        interval = config.train_cfg.pop("val_interval", 1000)
        config.run_length = dict(schedule=iters, max_iters=iters, validations=max(1, iters // interval))
    config.run_length = {**config.run_length, "minutes": minutes}
    hooks = config.get("default_hooks") or {}
    if "checkpoint" in hooks:
        hooks["checkpoint"]["interval"] = None


def settle_length(runner: Runner, checkpoint: str | Path | None) -> None:
    """Count the images, and set the length of a run whose config has the setting `run_length`.

    Loader, loop and schedules must not be built yet; the loader is built here. A resumed run keeps the length that it
    has decided on, unless the setting has changed.

    Args:
        runner: changed in place.
        checkpoint: what the run continues from; None for a new run.
    """
    length = run_length_of(runner.cfg)
    if length is None:
        return
    if not isinstance(runner._train_dataloader, DataLoader):
        diff_rank_seed = runner._randomness_cfg.get("diff_rank_seed", False)
        runner._train_dataloader = runner.build_dataloader(
            runner._train_dataloader, seed=runner.seed, diff_rank_seed=diff_rank_seed
        )
    state = _planned(runner, length)
    if checkpoint is not None:
        state = _continued(runner, checkpoint, state)
    _write(runner, state)
    runner.param_schedulers = stretched(runner.cfg.get("param_scheduler"), length.schedule, state.iters)
    logger.info(_description(runner, length, state))


def _continued(runner: Runner, checkpoint: str | Path, planned: LengthState) -> LengthState:
    """Return the length of a run that continues from a checkpoint: the one it had, unless the setting has changed.

    Raises:
        ValueError: the entry of the checkpoint is damaged.
    """
    content = load_checkpoint(checkpoint, map_location="meta")
    saved, meta = content.get(STORED), content.get("meta")
    if saved is None:
        return planned
    config = meta.get("config") if isinstance(meta, Mapping) else None
    setting = config.get("run_length") if isinstance(config, Mapping) else None
    try:
        state = argument_group(STORED, saved, LengthState)
        for name in ("iters", "val_interval", "longest"):
            check_number(f"{STORED}.{name}", getattr(state, name), 1, whole=True)
        check_number(f"{STORED}.seconds", state.seconds, 0)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{checkpoint}: damaged: {error}") from error
    if setting == config_to_data(runner.cfg).get("run_length") and planned.longest == state.longest:
        return state
    return replace(planned, seconds=state.seconds)


def planned_iters(length: RunLength, samples: int, per_step: int, multiple: int = 1) -> int:
    """Return the number of iterations for a number of images, before any time is measured.

    Args:
        length: the setting.
        samples: number of images.
        per_step: images that all ranks together see in an iteration.
        multiple: the result is a multiple of it: the number of batches whose gradients are added up.
    """
    upper = length.max_iters or 10**9
    passes = upper if length.passes is None else math.ceil(length.passes * samples / per_step)
    iters = min(max(passes, length.min_iters), upper)
    return max(2, math.ceil(iters / multiple)) * multiple if iters % multiple else iters


def interval_of(length: RunLength, iters: int, multiple: int = 1) -> int:
    """Return the iterations between validations, a multiple of `multiple`."""
    return max(1, round(iters / length.validations / multiple)) * multiple


def stretched(schedules: Any, schedule: int, iters: int) -> Any:
    """Return the configs of schedules, written for `schedule` iterations, for a run of `iters`.

    A boundary stays at least one iteration apart from the next, so that schedules stay in their order; those for which
    a short run has no room are left out.

    Raises:
        ConfigError: a schedule counts epochs, or has an argument that cannot be stretched.
    """
    if schedules is None:
        return None
    items = [schedules] if isinstance(schedules, Mapping) else list(schedules)
    kept = [_stretched(dict(item), schedule, iters) for item in items]
    return [item for item in kept if item.get("end", iters) > item.get("begin", 0)]


def _stretched(item: dict[str, Any], schedule: int, iters: int) -> dict[str, Any]:
    fixed = [key for key in _COUNTED if key in item]
    if fixed or item.get("by_epoch", True):
        what = fixed[0] if fixed else "by_epoch"
        raise ConfigError(
            f"param_scheduler: {what} cannot be stretched by run_length; use begin and end, by_epoch=False"
        )

    def moved(iteration: int) -> int:
        return 0 if iteration <= 0 else max(1, round(iteration * iters / schedule))

    for key in _STRETCHED:
        if isinstance(item.get(key), int):
            item[key] = moved(item[key])
        elif isinstance(item.get(key), Sequence):
            item[key] = [moved(iteration) for iteration in item[key]]
    return item


def change_length(runner: Runner, state: LengthState) -> None:
    """Give a running training another length: from here on it follows the schedules of a run of that length.

    Args:
        runner: after an iteration, and after the step of the schedules that belongs to it.
        state: the new length, above the number of iterations done.
    """
    length = run_length_of(_without_iters(runner.cfg))
    assert length is not None  # only a run with the setting changes its length
    _write(runner, state)
    loop, wrapper = runner.train_loop, runner.optim_wrapper
    loop._max_iters, loop.val_interval = state.iters, state.val_interval
    loop.dynamic_milestones, loop.dynamic_intervals = calc_dynamic_intervals(state.val_interval)
    runner.message_hub.update_info("max_iters", state.iters)
    for group in wrapper.param_groups:
        group.update({key.removeprefix("initial_"): group[key] for key in list(group) if key.startswith("initial_")})
    schedules = stretched(runner.cfg.get("param_scheduler"), length.schedule, state.iters)
    runner.param_schedulers = None if schedules is None else runner.build_param_scheduler(schedules)
    runner.plan = training_plan(runner.unwrapped_model, wrapper, runner.param_schedulers or [])
    replay(wrapper, runner.param_schedulers or [], runner.iter)
    wrapper.initialize_count_status(runner.model, runner.iter, state.iters)


def _planned(runner: Runner, length: RunLength) -> LengthState:
    loader = runner._train_dataloader
    if not hasattr(loader.dataset, "__len__"):
        raise ConfigError("run_length: the training data is a stream without a length; set train_cfg.max_iters instead")
    multiple = int((runner.cfg.get("optim_wrapper") or {}).get("accumulative_counts", 1))
    iters = planned_iters(length, len(loader.dataset), loader.batch_size * runner.world_size, multiple)
    return LengthState(iters, interval_of(length, iters, multiple), longest=iters)


def _write(runner: Runner, state: LengthState) -> None:
    """Write the length into the config of the run, and into its loop if that is not built yet."""
    numbers = dict(max_iters=state.iters, val_interval=state.val_interval)
    runner.cfg.train_cfg.update(numbers)
    if isinstance(runner._train_loop, dict):
        runner._train_loop.update(numbers)
    runner.length = state


def _without_iters(config: Any) -> dict[str, Any]:
    train_cfg = {key: value for key, value in config.train_cfg.items() if key != "max_iters"}
    return {"run_length": config.get("run_length"), "train_cfg": train_cfg}


def _description(runner: Runner, length: RunLength, state: LengthState) -> str:
    loader = runner._train_dataloader
    batch = loader.batch_size * runner.world_size
    passes = state.iters * batch / max(1, len(loader.dataset))
    bound = "" if length.minutes is None else f"; at most {length.minutes:g} min, turned into steps by the first ones"
    return (
        f"{len(loader.dataset)} images: {state.iters} steps of {batch} ({passes:.1f} passes), a validation every "
        f"{state.val_interval}{bound}"
    )
