"""The setting `run_length`: steps from images or minutes, schedules that end with the run, and resuming."""

import json
import os
import signal
import time

import pytest
from mmengine.config import Config
from mmengine.hooks import Hook
from tiny_run import TinyDataset, tiny_config

from openvocab.checkpoint.checkpoint import load_checkpoint, save_checkpoint
from openvocab.config.config import ConfigError
from openvocab.engine.hooks import checkpoint_hook
from openvocab.engine.run_length import RunLength, bound_minutes, interval_of, planned_iters, stretched
from openvocab.engine.runner import build_runner
from openvocab.engine.stopping import Stopped
from openvocab.registry import DATASETS, HOOKS


@HOOKS.register_module(force=True)
class SlowSteps(Hook):
    """Let each step and validation batch take a while on the clock of the test, and note the learning rates."""

    priority = "VERY_HIGH"

    def __init__(self, seconds=0.0, val_seconds=0.0, stop_at=None):
        self.seconds, self.val_seconds, self.stop_at = seconds, val_seconds, stop_at

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        CLOCK.now += self.val_seconds

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        CLOCK.now += self.seconds
        RATES.append(runner.optim_wrapper.get_lr()["lr"][0])
        if self.stop_at == runner.iter + 1:
            os.kill(os.getpid(), signal.SIGTERM)


class Clock:
    """A clock that only the hook above moves, so that the tests do not depend on the speed of the machine."""

    now = 0.0

    def monotonic(self):
        return self.now


RATES: list[float] = []
CLOCK = Clock()


@pytest.fixture
def clock(monkeypatch):
    """Let the time budget read the clock of the test."""
    monkeypatch.setattr("openvocab.engine.hooks.time_budget_hook.time", CLOCK)
    CLOCK.now = 1000.0
    return CLOCK


def config_with(length, seconds=0.0, val_seconds=0.0, stop_at=None, **options) -> Config:
    """Return the tiny run with the setting; its schedules are written for 100 steps: 10 of warm-up, then to zero."""
    config = tiny_config(
        hooks=[dict(type="SlowSteps", seconds=seconds, val_seconds=val_seconds, stop_at=stop_at)], **options
    )
    config.train_cfg.pop("max_iters")
    config.train_cfg.pop("val_interval")
    config.run_length = dict(schedule=100, **length)
    config.param_scheduler = [
        dict(type="LinearLR", start_factor=0.1, begin=0, end=10, by_epoch=False),
        dict(type="PolyLR", power=1.0, begin=10, end=100, by_epoch=False),
    ]
    config.default_hooks.checkpoint = dict(type="CheckpointHook", interval=None, best=None)
    config.optim_wrapper.accumulative_counts = 1
    RATES.clear()
    return config


def train(config, work_dir, **options):
    runner = build_runner(config, work_dir=work_dir, **options)
    runner.train()
    return runner


@pytest.mark.parametrize(
    ("setting", "samples", "iters"),
    [
        (dict(passes=50, min_iters=300, max_iters=20_000), 6, 300),
        (dict(passes=50, min_iters=300, max_iters=20_000), 400, 5000),
        (dict(passes=50, min_iters=300, max_iters=20_000), 100_000, 20_000),
        (dict(passes=1), 9, 3),
        (dict(max_iters=70, minutes=5), 9, 70),
    ],
)
def test_steps_follow_from_the_number_of_images(setting, samples, iters):
    length = RunLength(schedule=100, **setting)
    assert planned_iters(length, samples, 4) == iters
    assert planned_iters(length, samples, 4, multiple=3) % 3 == 0
    assert interval_of(length, iters) == max(1, round(iters / 8))


def test_schedules_are_stretched_and_a_short_run_has_no_room_for_all():
    warm_up = dict(type="LinearLR", begin=0, end=50, by_epoch=False)
    decay = dict(type="MultiStepLR", begin=50, end=1000, milestones=[600, 900], by_epoch=False)
    assert [item["end"] for item in stretched([warm_up, decay], 1000, 4000)] == [200, 4000]
    assert stretched([warm_up, decay], 1000, 4000)[1]["milestones"] == [2400, 3600]
    short = stretched([warm_up, decay], 1000, 3)
    assert [(item["begin"], item["end"]) for item in short] == [(0, 1), (1, 3)]


@pytest.mark.parametrize("part", [dict(by_epoch=True, end=3), dict(by_epoch=False, T_max=3), dict(end=4)])
def test_a_schedule_that_counts_otherwise_is_rejected(part):
    with pytest.raises(ConfigError, match="cannot be stretched"):
        stretched([dict(type="X", **part)], 100, 10)


def test_a_run_ends_after_its_passes_with_its_schedule(tmp_path):
    runner = train(config_with(dict(passes=3, validations=2)), tmp_path)
    samples, batch = len(runner.train_dataloader.dataset), runner.train_dataloader.batch_size
    assert runner.iter == runner.max_iters == -(-3 * samples // batch)
    assert runner.val_interval == round(runner.iter / 2)
    assert max(RATES) == pytest.approx(0.01, rel=0.15) and RATES[-1] < 0.2 * max(RATES)
    config = load_checkpoint(tmp_path / "last.pth")["meta"]["config"]
    assert config["train_cfg"]["max_iters"] == runner.iter and "end" in config["param_scheduler"][1]


@pytest.mark.parametrize("val_seconds", [0.0, 1.0])
def test_minutes_bound_the_run_and_its_schedule_still_ends(tmp_path, clock, val_seconds):
    length = dict(passes=10_000, validations=4, minutes=1)
    runner = train(config_with(length, seconds=0.5, val_seconds=val_seconds), tmp_path)
    assert 54 < clock.now - 1000 < 66
    assert runner.iter == len(RATES) and (runner.iter > 110 if not val_seconds else 60 < runner.iter < 110)
    assert RATES[-1] < 0.03 * 0.01 and RATES.index(max(RATES)) < 0.3 * len(RATES)
    interval = runner.length.val_interval
    assert interval == runner.train_loop.val_interval and 3 <= runner.iter / interval <= 5
    (scalars,) = tmp_path.rglob("scalars.json")
    scores = [json.loads(line) for line in scalars.read_text().splitlines() if "loss" not in line]
    assert len(scores) == -(-runner.iter // interval)


def test_expensive_validations_are_fewer(tmp_path, clock):
    runner = train(config_with(dict(passes=10_000, validations=8, minutes=1), 0.5, val_seconds=4.0), tmp_path)
    batches = len(runner.val_dataloader)
    assert batches * 4 * 8 > 60  # eight of them would not even fit
    assert clock.now - 1000 < 60 + 2 * 4 * batches and runner.iter / runner.length.val_interval <= 3


def test_minutes_of_real_time(tmp_path):
    started = time.monotonic()
    runner = train(config_with(dict(passes=100_000, validations=2, minutes=2 / 60)), tmp_path)
    assert 1 < time.monotonic() - started < 10 and 10 < runner.iter < runner.length.longest


def test_a_run_of_few_slow_steps_does_not_put_off_its_end_at_each_validation(tmp_path, clock):
    config = config_with(dict(passes=20, validations=8, minutes=1), seconds=8.0, val_seconds=5.0)
    config.val_dataloader.dataset.type = "OneItem"
    runner = train(config, tmp_path)
    assert runner.length.val_interval == 1  # every step is followed by a decision
    assert clock.now - 1000 < 60 + 2 * (8 + 5) and RATES[-1] < 0.5 * 0.01


@pytest.mark.parametrize(
    ("minutes", "reason"), [(0.5, "the fewest possible, though they take longer than 0.5 min"), (2, "fit into 2 min")]
)
def test_steps_that_the_run_takes_in_any_case_are_not_said_to_fit(tmp_path, clock, minutes, reason):
    config = config_with(dict(passes=20, validations=1, minutes=minutes), seconds=8.0)
    config.log_level = "INFO"
    train(config, tmp_path)
    (log,) = tmp_path.rglob("*.log")
    assert "8.00 s per step: " in log.read_text() and reason in log.read_text()


@DATASETS.register_module(force=True)
class OneItem(TinyDataset):
    """A validation part of one item."""

    def load_index(self):
        return super().load_index()[:1]


def test_a_run_that_slows_down_still_ends_in_time(tmp_path, clock):
    config = config_with(dict(passes=10_000, validations=6, minutes=1), seconds=0.2)
    config.custom_hooks.append(dict(type="Tired"))
    train(config, tmp_path)
    assert clock.now - 1000 < 80 and RATES[-1] < 0.03 * 0.01


@HOOKS.register_module(force=True)
class Tired(Hook):
    """Let steps take twice as long from the 80th on."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        CLOCK.now += 0.2 * (runner.iter >= 80)


@pytest.mark.parametrize("slow_steps", [3, 6, 30])
def test_a_run_that_speeds_up_validates_and_saves_no_more_often(tmp_path, clock, monkeypatch, slow_steps):
    saved = []
    monkeypatch.setattr(
        checkpoint_hook, "save_checkpoint", lambda state, path: saved.append(path.name) or save_checkpoint(state, path)
    )
    config = config_with(dict(passes=10_000, validations=8, minutes=1), seconds=0.05)
    config.custom_hooks.append(dict(type="SlowAtFirst", steps=slow_steps))
    runner = train(config, tmp_path)
    assert clock.now - 1000 < 66 and runner.iter > 100
    assert len(saved) <= 10 and f"iter_{runner.iter}.pth" == saved[-1]


@HOOKS.register_module(force=True)
class SlowAtFirst(Hook):
    """Let the first steps take a second more, as where other jobs share the machine."""

    def __init__(self, steps):
        self.steps = steps

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        CLOCK.now += runner.iter < self.steps


def test_a_run_that_needs_less_time_is_not_prolonged(tmp_path, clock):
    runner = train(config_with(dict(passes=3, minutes=1)), tmp_path)
    samples, batch = len(runner.train_dataloader.dataset), runner.train_dataloader.batch_size
    assert runner.iter == -(-3 * samples // batch)


def test_a_stopped_run_keeps_its_length_and_counts_the_time_before(tmp_path, clock):
    length = dict(passes=10_000, validations=1, minutes=1)
    with pytest.raises(Stopped):
        train(config_with(length, seconds=0.5, stop_at=25), tmp_path)
    saved = load_checkpoint(tmp_path / "last.pth")["run_length"]
    assert saved["is_decided"] and saved["seconds"] == 12.5 and 100 < saved["iters"] <= 121 < saved["longest"]
    before = list(RATES)
    clock.now += 5000  # between two processes
    runner = train(config_with(length, seconds=0.5), tmp_path, resume=True)
    assert runner.iter == saved["iters"]
    assert RATES[0] == pytest.approx(before[-1], rel=0.02) and RATES[-1] < 0.03 * 0.01


def test_a_resumed_run_with_more_minutes_is_longer(tmp_path, clock):
    with pytest.raises(Stopped):
        train(config_with(dict(passes=10_000, validations=1, minutes=1), seconds=0.5, stop_at=25), tmp_path)
    saved = load_checkpoint(tmp_path / "last.pth")["run_length"]
    runner = train(config_with(dict(passes=10_000, validations=1, minutes=1.5), seconds=0.5), tmp_path, resume=True)
    assert 1.4 * saved["iters"] < runner.iter < 1.6 * saved["iters"] and RATES[-1] < 0.03 * 0.01


def test_two_statements_of_the_length_are_an_error(tmp_path):
    config = config_with(dict(passes=1))
    config.train_cfg.max_iters = 5
    with pytest.raises(ConfigError, match="run_length and train_cfg.max_iters both state"):
        build_runner(config, work_dir=tmp_path)


@pytest.mark.parametrize("wrong", [dict(), dict(passes=0), dict(passes=1, minutes=-1), dict(passes=1, min_iters=1)])
def test_a_wrong_setting_is_an_error_before_data_is_read(tmp_path, wrong):
    with pytest.raises(ValueError, match="run_length"):
        build_runner(config_with(wrong), work_dir=tmp_path)


def test_an_unknown_argument_is_named(tmp_path):
    with pytest.raises(TypeError, match="run_length: unknown 'passs'; did you mean 'passes'"):
        build_runner(config_with(dict(passs=1)), work_dir=tmp_path)


def test_minutes_bound_any_config_and_its_own_length_is_the_longest(tmp_path):
    config = tiny_config(max_iters=12, hooks=[dict(type="SlowSteps")], interval=4)
    config.default_hooks.checkpoint.best = None
    bound_minutes(config, 5)
    assert config.run_length == dict(schedule=12, max_iters=12, validations=2, minutes=5)
    RATES.clear()
    runner = train(config, tmp_path)
    assert runner.iter == 12 == len(RATES) and runner.val_interval == 6
    with pytest.raises(ConfigError, match="states no number of iterations"):
        bound_minutes(Config(dict(train_cfg=dict(type="TrainLoop"))), 5)


def test_a_config_that_a_run_has_written_has_one_time_budget(tmp_path):
    config = config_with(dict(passes=2, minutes=5))
    runner = build_runner(config, work_dir=tmp_path / "first")
    written = runner.cfg
    again = build_runner(written, work_dir=tmp_path / "second")
    assert [type(hook).__name__ for hook in again.hooks].count("TimeBudgetHook") == 1
