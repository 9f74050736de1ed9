"""The metric that chooses best.pth: checked before the first step, and never a value that is not finite."""

import logging
import math
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_run import TinyMetric, tiny_config

from openvocab.checkpoint.checkpoint import SaveFailed, link_checkpoint, load_checkpoint, save_checkpoint
from openvocab.engine.hooks import CheckpointHook
from openvocab.engine.runner import build_runner
from openvocab.metrics.base import Metric
from openvocab.registry import METRICS


@METRICS.register_module()
class DeclaringMetric(TinyMetric, Metric):
    """Says what it returns, and returns what it is told."""

    scores: tuple = ()

    def result_keys(self, vocabulary):
        return ["mIoU", "mIoU_seen"]

    def compute_metrics(self, results):
        return {"mIoU": type(self).scores[0], "mIoU_seen": 1.0}


def run_with(work_dir, best, metric="DeclaringMetric", **options):
    config = tiny_config(**options)
    config.val_evaluator = dict(type=metric)
    config.default_hooks.checkpoint.best = best
    runner = build_runner(config, work_dir=work_dir)
    runner.train()
    return runner


def test_a_misspelt_key_fails_before_the_first_step(tmp_path):
    with pytest.raises(KeyError, match=r"no metric 'mIuO'.*did you mean 'mIoU'\?.*mIoU, mIoU_seen.*checkpoint.best"):
        run_with(tmp_path, "mIuO")
    assert not (tmp_path / "losses.txt").exists()


def test_a_metric_that_declares_nothing_is_checked_at_the_first_validation(tmp_path):
    with pytest.raises(KeyError, match="no metric 'mIuO'"):
        run_with(tmp_path, "mIuO", metric="TinyMetric")
    assert (tmp_path / "losses.txt").exists()


def test_a_best_without_a_validation_fails_before_the_first_step(tmp_path):
    config = tiny_config(max_iters=4)
    config.val_cfg = config.val_dataloader = config.val_evaluator = None
    with pytest.raises(ValueError, match="'mIoU' needs a validation, and the config has no val_evaluator; set .*=None"):
        build_runner(config, work_dir=tmp_path).train()
    assert not (tmp_path / "losses.txt").exists()
    config.default_hooks.checkpoint.best = None
    build_runner(config, work_dir=tmp_path).train()
    assert sorted(path.name for path in tmp_path.glob("*.pth")) == ["iter_4.pth", "last.pth"]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_never_the_best(lines_of, bad):
    lines = lines_of("openvocab.engine.hooks.checkpoint_hook")
    hook = CheckpointHook(best="mIoU")
    best = []
    for score in (bad, 50.0, bad, 40.0, np.float32(bad), 60.0):
        hook._is_best = False
        hook.after_val_epoch(SimpleNamespace(), {"mIoU": score})
        best.append(hook._is_best)
    assert best == [False, True, False, False, False, True] and hook.best_score == 60.0
    assert lines == [(logging.WARNING, f"mIoU is {bad}: such a model is never the best")]


def test_a_run_of_nan_scores_has_no_best_file(tmp_path, monkeypatch):
    monkeypatch.setattr(DeclaringMetric, "scores", (math.nan,))
    run_with(tmp_path, "mIoU", max_iters=6)
    assert not (tmp_path / "best.pth").exists() and (tmp_path / "last.pth").exists()


def test_the_best_score_of_another_metric_is_not_compared_with(tmp_path, monkeypatch):
    monkeypatch.setattr(DeclaringMetric, "scores", (90.0,))
    run_with(tmp_path, "mIoU", max_iters=6)
    config = tiny_config(max_iters=12)
    config.val_evaluator = dict(type="DeclaringMetric")
    config.default_hooks.checkpoint.best = "mIoU_seen"
    build_runner(config, work_dir=tmp_path, resume=True).train()
    assert load_checkpoint(tmp_path / "best.pth")["best_score"] == 1.0
    assert load_checkpoint(tmp_path / "best.pth")["meta"]["iter"] == 12


def scored_run(work_dir, monkeypatch, scores, max_iters=8, resume=False):
    """Train with a validation and a save every second step, and return the step and the score of the best."""
    left = iter(scores)
    monkeypatch.setattr(DeclaringMetric, "compute_metrics", lambda *_: {"mIoU": next(left), "mIoU_seen": 1.0})
    config = tiny_config(max_iters=max_iters)
    config.train_cfg.val_interval = config.default_hooks.checkpoint.interval = 2
    config.val_evaluator = dict(type="DeclaringMetric")
    build_runner(config, work_dir=work_dir, resume=resume).train()
    best = load_checkpoint(work_dir / "best.pth")
    return best["meta"]["iter"], best["best_score"]


def test_a_best_that_could_not_be_saved_is_not_the_one_to_beat(tmp_path, monkeypatch):
    def full_at_four(content, path):
        if path.name == "iter_4.pth":
            raise SaveFailed("disk full")
        save_checkpoint(content, path)

    monkeypatch.setattr("openvocab.engine.hooks.checkpoint_hook.save_checkpoint", full_at_four)
    assert scored_run(tmp_path, monkeypatch, [30.0, 50.0, 45.0, 40.0]) == (6, 45.0)


@pytest.mark.parametrize(
    ("later", "expected"), [([45.0, 46.0], (4, 50.0)), ([45.0, 60.0], (8, 60.0))], ids=["none better", "a better one"]
)
def test_a_run_killed_before_best_was_named_names_it_when_it_goes_on(tmp_path, monkeypatch, later, expected):
    def killed(source, target):
        if (source.name, target.name) == ("iter_4.pth", "best.pth"):
            raise KeyboardInterrupt
        link_checkpoint(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("openvocab.engine.hooks.checkpoint_hook.link_checkpoint", killed)
        with pytest.raises(KeyboardInterrupt):
            scored_run(tmp_path, patch, [30.0, 50.0])
    assert load_checkpoint(tmp_path / "best.pth")["meta"]["iter"] == 2
    assert scored_run(tmp_path, monkeypatch, later, resume=True) == expected


def test_a_best_that_is_gone_is_found_anew(tmp_path, monkeypatch):
    scored_run(tmp_path, monkeypatch, [50.0, 40.0], max_iters=4)
    (tmp_path / "best.pth").unlink()
    assert scored_run(tmp_path, monkeypatch, [45.0, 41.0], resume=True) == (6, 45.0)


@pytest.mark.parametrize("lost", ["last.pth", "best.pth"])
def test_a_run_killed_in_its_last_save_names_what_it_lacks_when_it_is_resumed(tmp_path, monkeypatch, lost):
    def killed(source, target):
        if (source.name, target.name) == ("iter_8.pth", lost):
            raise KeyboardInterrupt
        link_checkpoint(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("openvocab.engine.hooks.checkpoint_hook.link_checkpoint", killed)
        with pytest.raises(KeyboardInterrupt):
            scored_run(tmp_path, patch, [30.0, 35.0, 40.0, 50.0])
    assert load_checkpoint(tmp_path / lost)["meta"]["iter"] == 6
    assert scored_run(tmp_path, monkeypatch, [], resume=True) == (8, 50.0)
    assert load_checkpoint(tmp_path / "last.pth")["meta"]["iter"] == 8
