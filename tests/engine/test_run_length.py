"""The setting `run_length`: steps from images or minutes, schedules that end with the run, and resuming."""

import json
import os
import signal
import time

import pytest
from mmengine.config import Config
from mmengine.hooks import Hook
from tiny_run import tiny_config

from openvocab.checkpoint.checkpoint import load_checkpoint
from openvocab.config.config import ConfigError
from openvocab.engine.run_length import RunLength, interval_of, planned_iters, stretched
from openvocab.engine.runner import build_runner
from openvocab.engine.stopping import Stopped
from openvocab.registry import HOOKS


@HOOKS.register_module(force=True)
class SlowSteps(Hook):
    """Let each step take a while, and note the learning rates."""

    priority = "VERY_HIGH"

    def __init__(self, seconds=0.0, rates=None, stop_at=None):
        self.seconds, self.rates, self.stop_at = seconds, rates, stop_at

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        time.sleep(self.seconds)
        RATES.append(runner.optim_wrapper.get_lr()["lr"][0])
        if self.stop_at == runner.iter + 1:
            os.kill(os.getpid(), signal.SIGTERM)


RATES = []


def config_with(length, seconds=0.0, stop_at=None, **options) -> Config:
    """Return the tiny run with the setting; its schedules are written for 100 steps: 10 of warm-up, then to zero."""
    config = tiny_config(hooks=[dict(type="SlowSteps", seconds=seconds, stop_at=stop_at)], **options)
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


def test_minutes_bound_the_run_and_its_schedule_still_ends(tmp_path):
    started = time.monotonic()
    runner = train(config_with(dict(passes=10_000, validations=2, minutes=3 / 60), seconds=0.03), tmp_path)
    seconds = time.monotonic() - started
    assert 1.5 < seconds < 6
    assert 20 < runner.iter < 100 and runner.iter == len(RATES)
    assert RATES[-1] < 0.05 * 0.01 and RATES.index(max(RATES)) < 0.5 * len(RATES)


def test_a_shortened_run_validates_as_often_as_a_long_one(tmp_path):
    runner = train(config_with(dict(passes=10_000, validations=4, minutes=4 / 60), seconds=0.02), tmp_path)
    interval = runner.length.val_interval
    assert interval == runner.train_loop.val_interval and 3 <= runner.iter / interval <= 8
    (scalars,) = tmp_path.rglob("scalars.json")
    scores = [json.loads(line) for line in scalars.read_text().splitlines() if "loss" not in line]
    assert len(scores) == -(-runner.iter // interval)


def test_a_run_that_needs_less_time_is_not_prolonged(tmp_path):
    runner = train(config_with(dict(passes=3, minutes=1)), tmp_path)
    samples, batch = len(runner.train_dataloader.dataset), runner.train_dataloader.batch_size
    assert runner.iter == -(-3 * samples // batch)


def test_a_stopped_run_keeps_its_length_and_counts_the_time_before(tmp_path):
    length = dict(passes=10_000, validations=1, minutes=4 / 60)
    with pytest.raises(Stopped):
        train(config_with(length, seconds=0.03, stop_at=25), tmp_path)
    saved = load_checkpoint(tmp_path / "last.pth")["run_length"]
    assert saved["is_decided"] and saved["seconds"] > 0.7 and saved["iters"] < 200 < saved["longest"]
    before = list(RATES)
    runner = train(config_with(length, seconds=0.03), tmp_path, resume=True)
    assert runner.iter == saved["iters"]
    assert RATES[0] == pytest.approx(before[-1], rel=0.05) and RATES[-1] < 0.05 * 0.01


def test_a_resumed_run_with_more_minutes_is_longer(tmp_path):
    with pytest.raises(Stopped):
        train(config_with(dict(passes=10_000, validations=1, minutes=3 / 60), seconds=0.03, stop_at=25), tmp_path)
    saved = load_checkpoint(tmp_path / "last.pth")["run_length"]
    runner = train(config_with(dict(passes=10_000, validations=1, minutes=6 / 60), seconds=0.03), tmp_path, resume=True)
    assert runner.iter > 1.3 * saved["iters"] and RATES[-1] < 0.05 * 0.01


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
