"""Continue a run from its checkpoint: its state comes from the file, its plan from the config.

mmengine executes the config text that the file holds, and takes rates and schedules from the file, so that only a part
of a changed config takes effect. Here, nothing in the file is executed. A change either takes effect, and is named in
the log, or causes an error that states why it cannot.
"""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from mmengine.device import get_device
from mmengine.hooks import EMAHook
from mmengine.logging import HistoryBuffer
from mmengine.runner import Runner

from openvocab.checkpoint.checkpoint import check_training_state, load_checkpoint
from openvocab.checkpoint.strict_loading import check_same_weights, shortened
from openvocab.config.saved import config_changes, config_to_data
from openvocab.datasets.contracts import HasSeed, vocabulary_of
from openvocab.engine.optim_wrapper import SafeOptimWrapper
from openvocab.engine.precision import use_fast_matmul
from openvocab.engine.thread_count import keep_num_threads, threads_chosen
from openvocab.engine.training_plan import (
    is_plan,
    late_rate,
    obstacles,
    replay,
    take_moments,
    take_schedules,
    take_values,
    training_plan,
)
from openvocab.process.matmul_precision import matmul_precision

logger = logging.getLogger(__name__)

_MAX_LISTED_CHANGES = 20
_REMEDY = "undo the change, or start a new run from these weights: set load_from, and another work dir"
_UNNAMED_PARAMETERS = "the optimizer's parameter groups differ, and the file does not name their parameters"
_SET_BY_HOOKS = ("cfg", "experiment_name", "seed", "max_iters", "max_epochs", "dataset_meta", "loop_stage")


def resume_run(runner: Runner, path: str) -> None:
    """Restore the state of a checkpoint in a runner whose parts are freshly built.

    Raises:
        ValueError: the file holds no training state; or the config has changes that cannot take effect: another model,
            class list or optimizer, or a schedule that ends before the run. The message lists them all.
    """
    content = load_checkpoint(path)
    check_training_state(content, path)
    changes = config_changes(content["meta"].get("config"), config_to_data(runner.cfg))
    model = runner.unwrapped_model
    schedulers = runner.param_schedulers or []
    now = training_plan(model, runner.optim_wrapper, schedulers)
    plan = content["plan"] if is_plan(content.get("plan")) else None
    then = plan or (now if _same_groups(content["optimizer"]["param_groups"], now["groups"]) else None)
    problems = _model_problems(model, content, path) + _class_problems(runner, content["meta"])
    problems += [_UNNAMED_PARAMETERS] if then is None else obstacles(then, now, schedulers)
    if then is not None and then["optimizer"] == now["optimizer"]:
        problems += _option_problems(changes, now)
    with _incomplete_state_named(path):
        problems = problems or _follow_plan(runner, content, plan, now, changes)
    if problems or then is None:
        raise ValueError("\n".join([f"{path} cannot be resumed with this config:", *problems, _REMEDY]))
    _keep_precision(runner, content["meta"])
    names = [[name for group in each["groups"] for name in group["parameters"]] for each in (then, now)]
    with _incomplete_state_named(path):
        parameter_changes = take_moments(runner.optim_wrapper, content["optimizer"], *names)
        _restore_position(runner, content)
        _log_changes(runner, content, changes, parameter_changes)
        _restore_weights(runner, content)
    logger.info(f"resumed {path} at iteration {runner.iter} of {runner.max_iters}")


def _keep_precision(runner: Runner, meta: Mapping[str, Any]) -> None:
    """Keep the choices of the first probe if the config leaves them to a probe: another one may choose differently."""
    dtype, matmul = meta.get("compute_dtype"), meta.get("matmul_precision")
    if dtype is not None and isinstance(runner.optim_wrapper, SafeOptimWrapper):
        runner.optim_wrapper.keep_dtype(dtype)
    keep_num_threads(meta.get("num_threads"), threads_chosen())
    if matmul in ("highest", "medium") and matmul != matmul_precision(get_device()):
        use_fast_matmul(runner.cfg.get("precision", "auto"), keep=matmul)


@contextmanager
def _incomplete_state_named(path: str) -> Iterator[None]:
    """Name the file if an entry of its content that is used in this block is missing or of the wrong type."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{path}: its training state is incomplete: {type(error).__name__}: {error}") from error


def _same_groups(saved: Sequence[Any], now: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether the groups of a file without a plan can be those of the current optimizer."""
    return len(saved) == len(now) and all(
        len(old.get("params", ())) == len(new["parameters"]) and set(old) - {"params"} == set(new["settings"])
        for old, new in zip(saved, now)
    )


def _option_problems(changes: Mapping[str, tuple[Any, Any]], now: Mapping[str, Any]) -> list[str]:
    """Return a line per changed optimizer argument that is not a setting of a group: it decides which moments exist."""
    group_settings = {key for group in now["groups"] for key in group["settings"]} | {"type"}
    prefix = "optim_wrapper.optimizer."
    return [
        f"optimizer option {key.removeprefix(prefix)} {_short(old)} -> {_short(new)}: it may need other moments"
        for key, (old, new) in changes.items()
        if key.startswith(prefix) and key.removeprefix(prefix).split(".")[0] not in group_settings
    ]


def _model_problems(model: Any, content: Mapping[str, Any], path: str) -> list[str]:
    try:
        check_same_weights(model.state_dict(), content["state_dict"], path)
    except ValueError as error:
        return str(error).splitlines()[1:]
    return []


def _class_problems(runner: Runner, meta: Mapping[str, Any]) -> list[str]:
    vocabulary = vocabulary_of(runner.train_dataloader.dataset)
    names = None if vocabulary is None else list(vocabulary.class_names)
    if "class_names" not in meta or meta["class_names"] == names:
        return []
    return [f"other classes: {_class_difference(meta['class_names'], names)}"]


def _class_difference(saved: list[str] | None, now: list[str] | None) -> str:
    if saved is None or now is None:
        return f"{'none' if saved is None else len(saved)} then, {'none' if now is None else len(now)} now"
    for index, (old, new) in enumerate(zip(saved, now)):
        if old != new:
            return f"class {index} was {old!r}, is {new!r}"
    return f"{len(saved)} then, {len(now)} now"


def _follow_plan(
    runner: Runner,
    content: Mapping[str, Any],
    then: Mapping[str, Any] | None,
    now: Mapping[str, Any],
    changes: Mapping[str, Any],
) -> list[str]:
    """Set the rates of this iteration: those of the file if the plan is the same, else those that the config plans.

    Args:
        runner: whose optimizer and schedulers are set.
        content: content of the checkpoint.
        then: the plan in the file; None if it has none.
        now: the plan of the config.
        changes: changes of the config since the checkpoint.

    Returns:
        The problems of the new plan.
    """
    wrapper, schedulers, iteration = runner.optim_wrapper, runner.param_schedulers or [], content["meta"]["iter"]
    saved = content["optimizer"]["param_groups"] + [
        group for group in [content["optimizer"].get("base_param_settings")] if group
    ]
    if then == now and take_schedules(schedulers, content.get("param_schedulers")):
        take_values(wrapper, saved)
    else:
        replay(wrapper, schedulers, iteration)
        _log_rate(wrapper.param_groups, saved, iteration)
    if (then == now and "train_cfg.max_iters" not in changes) or iteration >= runner.max_iters - 2:
        return []
    if late_rate(wrapper, schedulers, iteration, runner.max_iters) > 0:
        return []
    end = f"before the run ends at iteration {runner.max_iters}; set the end of the last param_scheduler to that"
    if all(group["lr"] == 0 for group in wrapper.param_groups):
        return [f"the schedule has ended with a learning rate of 0 {end}"]
    logger.warning(f"the learning rate will fall to 0 {end}")
    return []


def _log_rate(groups: Sequence[dict], saved: Sequence[Mapping[str, Any]], iteration: int) -> None:
    """Log the new learning rate; if it equals that of the file up to rounding, take the one of the file."""
    rates = [(group, float(old.get("lr", math.nan))) for group, old in zip(groups, saved)]
    if len(groups) == len(saved) and all(math.isclose(group["lr"], old, rel_tol=1e-9) for group, old in rates):
        for group, old in rates:
            group["lr"] = old
    else:
        then, now = saved[-1].get("lr", math.nan), groups[-1]["lr"]
        logger.info(f"learning rate at iteration {iteration}: {then:.4g} -> {now:.4g}")


def _restore_position(runner: Runner, content: Mapping[str, Any]) -> None:
    """Restore loop, seed and logs."""
    meta = content["meta"]
    runner.train_loop._iter, runner.train_loop._epoch = meta["iter"], meta.get("epoch", 0)
    runner.train_loop.resume_at(content["loop"], content["random_states"])
    seed, planned = meta.get("seed"), (runner.cfg.get("randomness") or {}).get("seed")
    if planned is None and isinstance(seed, int):  # drawn at random when the run began
        runner.set_randomness(**{**runner._randomness_cfg, "seed": seed})
        sampler = runner.train_dataloader.sampler
        if isinstance(sampler, HasSeed):
            sampler.seed = seed
    hub = content.get("message_hub")
    if hub is not None:
        _restore_logs(runner, hub)


def _restore_logs(runner: Runner, saved: Mapping[str, Any]) -> None:
    """Restore the logs and notes of mmengine's message hub, except for those that describe the current run."""
    scalars = {key: HistoryBuffer(values, counts) for key, (values, counts) in saved["log_scalars"].items()}
    notes = {key: value for key, value in saved["runtime_info"].items() if key not in _SET_BY_HOOKS}
    resumed = {key: True for key, value in saved["resumed_keys"].items() if value and (key in scalars or key in notes)}
    runner.message_hub.load_state_dict({"log_scalars": scalars, "runtime_info": notes, "resumed_keys": resumed})


def _restore_weights(runner: Runner, content: dict[str, Any]) -> None:
    """Load the weights. With an `EMAHook`, the `state_dict` of the file holds the averages, not the trained ones."""
    averages = content.get("ema_state_dict")
    if averages is not None and not any(isinstance(hook, EMAHook) for hook in runner.hooks):
        trained = {name.removeprefix("module."): value for name, value in averages.items() if name[:7] == "module."}
        content["state_dict"] = {name: trained.get(name, value) for name, value in content["state_dict"].items()}
        del content["ema_state_dict"]
        logger.info("the averaged weights are dropped: the config no longer has an EMAHook")
    runner.call_hook("after_load_checkpoint", checkpoint=content)
    runner.unwrapped_model.load_state_dict(content["state_dict"])


def _log_changes(
    runner: Runner, content: Mapping[str, Any], changes: Mapping[str, tuple[Any, Any]], parameter_changes: str
) -> None:
    """Log what differs from the run so far: a line each for config, parameters, types of weights, and data."""
    if changes:
        rows = [f"{key} {_short(old)} -> {_short(new)}" for key, (old, new) in changes.items()]
        logger.info(f"resumed with another config: {shortened(rows, _MAX_LISTED_CHANGES)}")
    if parameter_changes:
        logger.warning(f"resumed with other trained parameters, {parameter_changes}")
    saved, present = content["state_dict"], runner.unwrapped_model.state_dict()
    recast = [name for name, value in saved.items() if value.dtype != present[name].dtype]
    if recast:
        dtypes = f"{saved[recast[0]].dtype} -> {present[recast[0]].dtype}"
        logger.warning(f"resumed with {len(recast)} weights of another type, {dtypes}")
    meta, loader = content["meta"], runner.train_dataloader
    now = {"world_size": runner.world_size, "batch_size": loader.batch_size}
    now |= {"samples": len(loader.dataset)} if hasattr(loader.dataset, "__len__") else {}
    parts = [f"{key} {meta[key]} -> {value}" for key, value in now.items() if meta.get(key, value) != value]
    if parts:
        logger.warning(f"resumed with {', '.join(parts)}: the run will not be equal to an uninterrupted one")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
