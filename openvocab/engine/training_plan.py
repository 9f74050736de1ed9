"""What a config plans for the optimizer: which parameters it moves, at which rates, and how these change with time.

The plan of a run is kept in its checkpoints. A resumed run compares it with its own: of an equal plan the saved values
are taken, bit for bit; of another one they are computed anew, as they would be had the run been planned so from its
start.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from mmengine.optim import OptimWrapper, _ParamScheduler
from torch import nn
from torch.optim import SGD

from openvocab.checkpoint.checkpoint import is_plain, to_plain
from openvocab.checkpoint.strict_loading import shortened
from openvocab.config.saved import class_path

_FREE_TO_CHANGE = ("params", "foreach", "fused", "capturable", "maximize", "nesterov", "differentiable")


def training_plan(model: nn.Module, optim_wrapper: OptimWrapper, schedulers: Sequence[_ParamScheduler]) -> dict:
    """Return the plan as plain data, taken before the first step.

    Returns:
        `optimizer`: its class; `groups`: names of the `parameters` and `settings` of each; `schedulers`: class and
        settings of each.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = [
        {"parameters": [names.get(id(p), "?") for p in group["params"]], "settings": _settings(group)}
        for group in optim_wrapper.optimizer.param_groups
    ]
    plans = [{"type": class_path(type(item)), "settings": plain_state(item.state_dict())} for item in schedulers]
    return to_plain({"optimizer": class_path(type(optim_wrapper.optimizer)), "groups": groups, "schedulers": plans})


def plain_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a state can be saved; functions, which a constructor sets anyway, are left out."""
    return {key: value for key, value in state.items() if is_plain(value)}


def is_plan(value: Any) -> bool:
    """Say whether something from a file has the form of a plan."""
    if not isinstance(value, Mapping) or not isinstance(value.get("optimizer"), str):
        return False
    groups = value.get("groups")
    schedulers = value.get("schedulers")
    if not isinstance(groups, list) or not isinstance(schedulers, list):
        return False
    return all(map(_is_group, groups)) and all(isinstance(item, Mapping) for item in schedulers)


def _is_group(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and isinstance(value.get("settings"), Mapping)
        and isinstance(value.get("parameters"), list)
        and all(isinstance(name, str) for name in value["parameters"])
    )


def obstacles(saved: Mapping[str, Any], present: Mapping[str, Any], schedulers: Sequence[_ParamScheduler]) -> list[str]:
    """Return the differences between two plans for which a run cannot continue, each as a line."""
    if saved["optimizer"] != present["optimizer"]:
        return [f"optimizer {saved['optimizer']} -> {present['optimizer']}: the moments of one are not the other's"]
    lines = []
    then, now = (plan["groups"][0]["settings"] if plan["groups"] else {} for plan in (saved, present))
    scheduled = {item.get("settings", {}).get("param_name") for plan in (saved, present) for item in plan["schedulers"]}
    for key in sorted({*then, *now} - scheduled - set(_FREE_TO_CHANGE)):
        if not key.startswith("initial_") and _needs_other_moments(
            key, then.get(key), now.get(key), present["optimizer"]
        ):
            lines.append(f"optimizer option {key} {then.get(key)} -> {now.get(key)}: it needs other moments")
    if saved["schedulers"] != present["schedulers"]:
        judging = [type(item).__name__ for item in schedulers if getattr(item, "need_val_args", False)]
        lines += [f"schedule with {name}: what it does depends on past validations" for name in judging]
    return lines


def take_moments(optim_wrapper: OptimWrapper, saved: Mapping[str, Any], then: Sequence[str], now: Sequence[str]) -> str:
    """Give the optimizer the moments of a checkpoint, by the names of the parameters.

    Args:
        saved: state of an optimizer.
        then, now: names of the parameters in the order of its groups.

    Returns:
        What is new and what was left out, for the log; "" if the parameters are the same.
    """
    optimizer = optim_wrapper.optimizer
    position = {name: index for index, name in enumerate(now)}
    state = {
        position[name]: saved["state"][i] for i, name in enumerate(then) if name in position and i in saved["state"]
    }
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    new, old = [name for name in now if name not in then], [name for name in then if name not in position]
    parts = [f"{len(new)} parameters newly trained: {shortened(new)}"] if new else []
    return ", ".join(parts + ([f"{len(old)} no longer trained: {shortened(old)}"] if old else []))


def take_schedules(schedulers: Sequence[_ParamScheduler], saved: Any) -> bool:
    """Give the schedulers their states in a checkpoint of the same plan; say whether these are complete.

    Nothing is taken if they are not.
    """
    states = saved if isinstance(saved, list) and all(isinstance(state, dict) for state in saved) else []
    own = [plain_state(scheduler.state_dict()) for scheduler in schedulers]
    if len(states) != len(own) or not all(state.keys() == mine.keys() for state, mine in zip(states, own)):
        return False
    for scheduler, state, mine in zip(schedulers, states, own):
        scheduler.load_state_dict({key: value for key, value in state.items() if type(value) is type(mine[key])})
    return True


def take_values(optim_wrapper: OptimWrapper, saved_groups: Sequence[Mapping[str, Any]]) -> None:
    """Set the numbers of each group to those of a checkpoint of the same plan."""
    for group, saved in zip(optim_wrapper.param_groups, saved_groups):
        for key, value in saved.items():
            if key != "params" and key in group and type(value) is type(group[key]):
                group[key] = copy.deepcopy(value)


def replay(optim_wrapper: OptimWrapper, schedulers: Sequence[_ParamScheduler], iterations: int) -> None:
    """Bring fresh schedulers, and the groups they write to, to where they are after so many iterations."""
    with _steps_allowed(optim_wrapper):
        for _ in range(iterations):
            _step(schedulers)


def late_rate(
    optim_wrapper: OptimWrapper, schedulers: Sequence[_ParamScheduler], iteration: int, max_iters: int
) -> float:
    """Return the largest learning rate of the last iteration but one, from the state at `iteration`.

    Nothing is changed. In the very last one most schedules of mmengine have reached their end.
    """
    kept = [copy.copy(item.__dict__) for item in schedulers]
    values = [{key: value for key, value in group.items() if key != "params"} for group in optim_wrapper.param_groups]
    ends = [item.end for item in schedulers if not item.by_epoch]
    replay(optim_wrapper, schedulers, max(0, min(max_iters - 2, max(ends, default=0) + 1) - iteration))
    rate = max(float(group["lr"]) for group in optim_wrapper.param_groups)
    for item, state in zip(schedulers, kept):
        item.__dict__ = state
    for group, settings in zip(optim_wrapper.param_groups, values):
        group.update(settings)
    return rate


def _step(schedulers: Sequence[_ParamScheduler]) -> None:
    """Do what mmengine's `ParamSchedulerHook` does after an iteration."""
    for scheduler in schedulers:
        if not scheduler.by_epoch:
            scheduler.step()


@contextmanager
def _steps_allowed(optim_wrapper: OptimWrapper) -> Iterator[None]:
    """Let schedulers step without an optimizer step before, of which they warn."""
    before = getattr(optim_wrapper, "_global_step", -1)
    optim_wrapper._global_step = 0
    try:
        yield
    finally:
        optim_wrapper._global_step = before


def _settings(group: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key != "params" and is_plain(value)}


def _needs_other_moments(key: str, then: Any, now: Any, optimizer: str) -> bool:
    """Say whether a step with the option `now` reads what a step with `then` has not kept.

    A number only scales, except a momentum that was none: all but SGD start theirs when they start.
    """
    if then == now:
        return False
    if key == "momentum" and not then:
        return optimizer != class_path(SGD)
    numbers = all(isinstance(value, (int, float, tuple, list)) and not isinstance(value, bool) for value in (then, now))
    return not numbers
