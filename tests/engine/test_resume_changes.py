"""A resumed run follows its config: its plan at this step, or an error that lists what differs."""

import logging
import re

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from tiny_run import TinyDataset, TinyModel, tiny_config

from openvocab.checkpoint.checkpoint import load_checkpoint, save_checkpoint
from openvocab.engine.runner import build_runner
from openvocab.registry import HOOKS, MODELS

SAVED_AT = 8


@HOOKS.register_module()
class RecordPlan(Hook):
    """Keep what the optimizer is told before each step."""

    def __init__(self):
        self.settings = {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        groups = runner.optim_wrapper.optimizer.param_groups
        self.settings[runner.iter] = [
            {key: group[key] for key in ("lr", "weight_decay", "momentum", "betas") if key in group} for group in groups
        ]


@pytest.fixture
def log(monkeypatch, lines_of):
    """Return the lines of the log of resuming, and every warning."""
    lines = lines_of("openvocab.engine.resume")
    monkeypatch.setattr("mmengine.logging.MMLogger.warning", lambda self, line, *_: lines.append((30, line)))
    return lines


def config_with(max_iters=SAVED_AT, **changes) -> Config:
    """Return the tiny config with some values changed, `optim_wrapper__optimizer={...}` for deep ones."""
    config = tiny_config(max_iters=16)
    config.train_cfg.max_iters = max_iters
    config.custom_hooks.append(dict(type="RecordPlan"))
    for place, value in changes.items():
        node = config
        *parents, leaf = place.split("__")
        for name in parents:
            node = node[int(name) if name.isdigit() else name]
        node[int(leaf) if leaf.isdigit() else leaf] = value
    return config


def plan_of(config, work_dir, resume=False) -> dict:
    runner = build_runner(config, work_dir=work_dir, resume=resume)
    runner.train()
    return next(hook for hook in runner.hooks if isinstance(hook, RecordPlan)).settings


def adamw(**settings) -> dict:
    return dict(type="AdamW", **{"lr": 0.01, "weight_decay": 0.01, **settings})


def linear_then(*rest):
    return [dict(type="LinearLR", start_factor=0.1, begin=0, end=3, by_epoch=False), *rest]


COSINE = dict(type="CosineAnnealingLR", eta_min=0.0, begin=3, end=20, by_epoch=False)
STEPS = dict(type="MultiStepLR", milestones=[5, 10], gamma=0.1, by_epoch=False)
LONGER = dict(type="PolyLR", power=0.9, begin=3, end=20, by_epoch=False)
CHANGES = {
    "longer": dict(param_scheduler=linear_then(LONGER)),
    "cosine": dict(param_scheduler=linear_then(COSINE)),
    "steps": dict(param_scheduler=linear_then(STEPS)),
    "fewer schedulers": dict(param_scheduler=[LONGER]),
    "more schedulers": dict(
        param_scheduler=linear_then(LONGER, dict(type="ConstantLR", factor=0.5, begin=6, end=12, by_epoch=False))
    ),
    "other warm-up": dict(
        param_scheduler=[dict(type="LinearLR", start_factor=0.01, begin=0, end=10, by_epoch=False), STEPS]
    ),
    "no scheduler": dict(param_scheduler=None),
    "one scheduler, not in a list": dict(param_scheduler=LONGER),
    "rate": dict(optim_wrapper__optimizer=adamw(lr=0.02)),
    "decay": dict(optim_wrapper__optimizer=adamw(weight_decay=0.3)),
    "betas": dict(optim_wrapper__optimizer=adamw(betas=(0.8, 0.9))),
    "groups": dict(optim_wrapper__paramwise_cfg=dict(custom_keys={"layers.3": dict(lr_mult=0.1)})),
    "one group": dict(optim_wrapper__paramwise_cfg=dict()),
    "momentum too": dict(
        param_scheduler=[*linear_then(LONGER), dict(type="LinearMomentum", start_factor=0.5, end=15, by_epoch=False)]
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_plan_of_the_config_is_followed_from_this_step_on(tmp_path, name, log):
    plan_of(config_with(), tmp_path / "run")
    changed = {"max_iters": 14, **CHANGES[name]}
    uninterrupted = plan_of(config_with(**changed), tmp_path / "other")
    log.clear()
    resumed = plan_of(config_with(**changed), tmp_path / "run", resume=True)
    assert list(resumed) == list(range(SAVED_AT, 14))
    assert resumed == {step: uninterrupted[step] for step in resumed}
    (note,) = [line for _, line in log if line.startswith("resumed with another config: ")]
    assert "train_cfg.max_iters 8 -> 14" in note
    assert next(iter(CHANGES[name])).replace("__", ".") in note


def test_the_line_on_a_changed_rate_says_both(tmp_path, log):
    plan_of(config_with(), tmp_path)
    plan_of(config_with(max_iters=10, optim_wrapper__optimizer=adamw(lr=0.02)), tmp_path, resume=True)
    (note,) = [line for _, line in log if line.startswith("resumed with another config: ")]
    assert "optim_wrapper.optimizer.lr 0.01 -> 0.02" in note
    (rate,) = [line for _, line in log if line.startswith("learning rate at iteration 8: ")]
    then, now = map(float, re.findall(r"[0-9.]+", rate.partition(": ")[2]))
    assert now == pytest.approx(2 * then, rel=1e-3)


@pytest.mark.parametrize("optimizer", ["Muon", "SGD", "AdamW"])
def test_moments_stay_with_their_parameters_when_groups_change(tmp_path, optimizer):
    kind = "openvocab.engine.muon.Muon" if optimizer == "Muon" else optimizer
    options = {"momentum": 0.9} if optimizer == "SGD" else {}
    base = dict(optim_wrapper__optimizer=dict(type=kind, lr=0.01, weight_decay=0.01, **options))
    plan_of(config_with(**base), tmp_path)
    keys = {"layers.3": dict(lr_mult=0.5), "layers.0.bias": dict(decay_mult=3.0)}
    config = config_with(max_iters=12, **base, optim_wrapper__paramwise_cfg=dict(custom_keys=keys))
    runner = build_runner(config, work_dir=tmp_path, resume=True)
    seen = {}

    class Look(Hook):
        def before_train(self, runner):
            state = runner.optim_wrapper.optimizer.state
            seen.update({name: state[parameter] for name, parameter in runner.model.named_parameters()})

    runner.register_hook(Look())
    saved = load_checkpoint(tmp_path / "last.pth")
    order = [name for group in saved["plan"]["groups"] for name in group["parameters"]]
    runner.train_loop.run = lambda: runner.call_hook("before_train")
    runner.train()
    assert len(seen) == 6
    for index, name in enumerate(order):
        for key, value in saved["optimizer"]["state"][index].items():
            assert torch.equal(seen[name][key], value), (name, key)


def test_newly_trained_parameters_are_named(tmp_path, log, monkeypatch):
    plan_of(config_with(), tmp_path)
    build = TinyModel.__init__

    def frozen(self):
        build(self)
        self.layers[0].requires_grad_(False)

    monkeypatch.setattr(TinyModel, "__init__", frozen)
    plan_of(config_with(max_iters=12), tmp_path, resume=True)
    assert any("2 no longer trained: layers.0.weight; layers.0.bias" in line for _, line in log)
    log.clear()
    monkeypatch.setattr(TinyModel, "__init__", build)
    plan_of(config_with(max_iters=16), tmp_path, resume=True)
    assert any("2 parameters newly trained: layers.0.weight; layers.0.bias" in line for _, line in log)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(optim_wrapper__optimizer=dict(type="SGD", lr=0.01)), r"optimizer torch.optim.adamw.AdamW -> .*SGD"),
        (dict(optim_wrapper__optimizer=adamw(amsgrad=True)), "option amsgrad False -> True"),
        (dict(param_scheduler__1__end=8), "schedule has ended with a learning rate of 0 before .* iteration 20; set"),
        (dict(model=dict(type="WiderModel")), r"1 unexpected: layers.3.bias\n4 of another shape: layers.0.weight"),
    ],
    ids=["optimizer", "amsgrad", "schedule at its end", "model"],
)
def test_what_cannot_be_followed_is_an_error_that_lists_it(tmp_path, change, message):
    plan_of(config_with(), tmp_path)
    with pytest.raises(ValueError, match=message) as caught:
        plan_of(config_with(max_iters=20, **change), tmp_path, resume=True)
    assert "undo the change" in str(caught.value)


def test_a_rate_that_will_fall_to_nothing_is_a_warning(tmp_path, log):
    plan_of(config_with(), tmp_path)
    plan_of(config_with(max_iters=20), tmp_path, resume=True)
    (warning,) = [line for level, line in log if level == logging.WARNING]
    assert "will fall to 0 before the run ends at iteration 20; set the end of the last" in warning


def test_an_option_that_decides_what_moments_there_are_is_not_followed(tmp_path):
    muon = dict(type="openvocab.engine.muon.Muon", lr=0.01)
    plan_of(config_with(optim_wrapper__optimizer=muon), tmp_path)
    with pytest.raises(ValueError, match="optimizer option table_rows 'absent' -> 8: it may need other moments"):
        plan_of(config_with(12, optim_wrapper__optimizer={**muon, "table_rows": 8}), tmp_path, resume=True)


@MODELS.register_module()
class WiderModel(TinyModel):
    """Another model than the one that was saved."""

    def __init__(self):
        super().__init__()
        self.layers[0] = torch.nn.Linear(8, 20)
        self.layers[1] = torch.nn.BatchNorm1d(16)
        self.layers[3] = torch.nn.Linear(20, 3, bias=False)
        self.layers[1].weight.data = torch.ones(20)


def test_all_that_differs_is_in_one_error(tmp_path, monkeypatch):
    from openvocab.vocabulary.vocabulary import Vocabulary

    monkeypatch.setattr(TinyDataset, "vocabulary", Vocabulary.from_names(["cat", "dog"]))
    plan_of(config_with(), tmp_path)
    monkeypatch.setattr(TinyDataset, "vocabulary", Vocabulary.from_names(["cat", "horse"]))
    config = config_with(12, model=dict(type="WiderModel"), optim_wrapper__optimizer=dict(type="SGD", lr=1))
    with pytest.raises(ValueError) as caught:
        plan_of(config, tmp_path, resume=True)
    for part in ("unexpected", "another shape", "class 1 was 'dog', is 'horse'", "optimizer torch.optim.adamw.AdamW"):
        assert part in str(caught.value)


def test_an_unchanged_run_is_resumed_without_a_warning(tmp_path, log, recwarn):
    plan_of(config_with(), tmp_path)
    (tmp_path / "iter_8.pth").unlink()
    log.clear()
    plan_of(config_with(), tmp_path, resume=True)
    assert [line for _, line in log] == [f"resumed {tmp_path / 'iter_6.pth'} at iteration 6 of 8"]
    assert not [warning for warning in recwarn if "resum" in str(warning.message).lower()]


def test_a_finished_run_says_so_and_does_nothing(tmp_path, monkeypatch):
    plan_of(config_with(), tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.pth")}
    runner = build_runner(config_with(), work_dir=tmp_path, resume=True)
    lines = []
    monkeypatch.setattr(runner.logger, "info", lines.append)
    monkeypatch.setattr(TinyDataset, "load_index", lambda self: pytest.fail("data were read"))
    runner.train()
    assert len(lines) == 1 and "iteration 8 of 8: this run is finished" in lines[0]
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    saved = load_checkpoint(tmp_path / "last.pth")["state_dict"]
    assert all(torch.equal(value, saved[name]) for name, value in runner.model.state_dict().items())


def test_a_run_that_got_further_than_its_new_end_is_finished(tmp_path, monkeypatch):
    plan_of(config_with(), tmp_path)
    assert plan_of(config_with(max_iters=6), tmp_path, resume=True) == {}


def test_resume_prefers_the_work_dir_to_load_from(tmp_path):
    plan_of(config_with(), tmp_path / "first")
    config = config_with(load_from=str(tmp_path / "first" / "last.pth"))
    assert list(plan_of(config, tmp_path / "second", resume=True)) == list(range(8))  # nothing there: its start weights
    longer = config_with(12, load_from=str(tmp_path / "first" / "last.pth"))
    assert list(plan_of(longer, tmp_path / "second", resume=True)) == list(range(8, 12))


def test_a_run_without_a_seed_keeps_the_one_it_drew(tmp_path):
    config = config_with(randomness=dict(seed=None))
    runner = build_runner(config, work_dir=tmp_path)
    runner.train()
    longer = build_runner(config_with(12, randomness=dict(seed=None)), work_dir=tmp_path, resume=True)
    longer.train()
    assert longer.seed == runner.seed == longer.train_dataloader.sampler.seed


def test_an_averaging_hook_that_is_gone_leaves_the_trained_weights(tmp_path, log):
    config = config_with()
    config.custom_hooks.append(dict(type="EMAHook", momentum=0.1))
    plan_of(config, tmp_path)
    saved = load_checkpoint(tmp_path / "last.pth")
    runner = build_runner(config_with(12), work_dir=tmp_path, resume=True)
    runner.train_loop.run = lambda: None
    runner.train()
    for name, value in runner.model.named_parameters():
        assert torch.equal(value, saved["ema_state_dict"][f"module.{name}"])
        assert not torch.equal(value, saved["state_dict"][name])
    assert any("averaged weights are dropped" in line for _, line in log)


@pytest.mark.parametrize("missing", ["plan", "message_hub", "best_score", "param_schedulers"])
def test_a_file_without_an_optional_part_is_resumed(tmp_path, missing):
    whole = plan_of(config_with(12), tmp_path / "whole")
    plan_of(config_with(), tmp_path / "run")
    path = tmp_path / "run" / "iter_8.pth"
    content = load_checkpoint(path)
    del content[missing]
    del content["meta"]["class_names"], content["meta"]["config"]
    save_checkpoint(content, path)
    resumed = plan_of(config_with(12), tmp_path / "run", resume=True)
    assert resumed == {step: whole[step] for step in range(8, 12)}
