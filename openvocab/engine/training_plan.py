"""The training plan of a config: which parameters the optimizer trains, at which rates, and how the rates change.

The checkpoints of a run store its plan. A resumed run compares it with its own: if the plans are equal, it takes the
saved values, bit for bit; if they differ, it computes the values that the run would have if it had started with the new
plan.
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
    """Return the plan as plain data; to be called before the first step.

    Returns:
        `optimizer`: its class; `groups`: for each, the names of its `parameters`, and its `settings`; `schedulers`: for
        each, its class as `type`, and its `settings`.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = [
        {"parameters": [names.get(id(p), "?") for p in group["params"]], "settings": _settings(group)}
        for group in optim_wrapper.optimizer.param_groups
    ]
    plans = [{"type": class_path(type(item)), "settings": plain_state(item.state_dict())} for item in schedulers]
    return to_plain({"optimizer": class_path(type(optim_wrapper.optimizer)), "groups": groups, "schedulers": plans})


def plain_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of a state that can be saved; functions, which a constructor sets anyway, are dropped."""
    return {key: value for key, value in state.items() if is_plain(value)}


def is_plan(value: Any) -> bool:
    """Return whether a value from a file has the form of a plan."""
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
    """Return, one per line, the differences between two plans that keep a run from continuing."""
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
        by_metric = [type(item).__name__ for item in schedulers if getattr(item, "need_val_args", False)]
        lines += [f"schedule with {name}: what it does depends on past validations" for name in by_metric]
    return lines


def take_moments(optim_wrapper: OptimWrapper, saved: Mapping[str, Any], then: Sequence[str], now: Sequence[str]) -> str:
    """Load the moments of a checkpoint into the optimizer, by the names of the parameters.

    Args:
        optim_wrapper: whose optimizer gets the moments.
        saved: state of an optimizer.
        then, now: names of the parameters in the order of the groups, in the checkpoint and in this run.

    Returns:
        A note for the log on parameters that are newly trained or no longer trained; "" if there are none.
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
    """Load the states of the schedulers from a checkpoint of the same plan; return whether they are complete.

    If they are not, nothing is loaded.
    """
    states = saved if isinstance(saved, list) and all(isinstance(state, dict) for state in saved) else []
    present = [plain_state(scheduler.state_dict()) for scheduler in schedulers]
    if len(states) != len(present) or not all(old.keys() == new.keys() for old, new in zip(states, present)):
        return False
    for scheduler, old, new in zip(schedulers, states, present):
        scheduler.load_state_dict({key: value for key, value in old.items() if type(value) is type(new[key])})
    return True


def take_values(optim_wrapper: OptimWrapper, saved_groups: Sequence[Mapping[str, Any]]) -> None:
    """Set the numbers of each group to those of a checkpoint of the same plan."""
    for group, saved in zip(optim_wrapper.param_groups, saved_groups):
        for key, value in saved.items():
            if key != "params" and key in group and type(value) is type(group[key]):
                group[key] = copy.deepcopy(value)


def replay(optim_wrapper: OptimWrapper, schedulers: Sequence[_ParamScheduler], iterations: int) -> None:
    """Advance fresh schedulers, and the groups that they write to, by a number of iterations."""
    with _without_order_warning(optim_wrapper):
        for _ in range(iterations):
            _step(schedulers)


def late_rate(
    optim_wrapper: OptimWrapper, schedulers: Sequence[_ParamScheduler], iteration: int, max_iters: int
) -> float:
    """Return the largest learning rate of the last iteration but one, starting from the state at `iteration`.

    Nothing is changed. In the last iteration, most schedules of mmengine have reached their end already.
    """
    states = [copy.copy(item.__dict__) for item in schedulers]
    values = [{key: value for key, value in group.items() if key != "params"} for group in optim_wrapper.param_groups]
    ends = [item.end for item in schedulers if not item.by_epoch]
    replay(optim_wrapper, schedulers, max(0, min(max_iters - 2, max(ends, default=0) + 1) - iteration))
    rate = max(float(group["lr"]) for group in optim_wrapper.param_groups)
    for item, state in zip(schedulers, states):
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
def _without_order_warning(optim_wrapper: OptimWrapper) -> Iterator[None]:
    """Let schedulers step before the optimizer has stepped, without their warning."""
    global_step = getattr(optim_wrapper, "_global_step", -1)
    optim_wrapper._global_step = 0
    try:
        yield
    finally:
        optim_wrapper._global_step = global_step


def _settings(group: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key != "params" and is_plain(value)}


def _needs_other_moments(key: str, then: Any, now: Any, optimizer: str) -> bool:
    """Return whether a step with the option `now` needs moments that a step with the option `then` has not stored.

    A number only scales. The exception is a momentum that was 0: only SGD can start its momentum later.
    """
    if then == now:
        return False
    if key == "momentum" and not then:
        return optimizer != class_path(SGD)
    numbers = all(isinstance(value, (int, float, tuple, list)) and not isinstance(value, bool) for value in (then, now))
    return not numbers
