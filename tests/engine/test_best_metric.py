"""The metric that chooses best.pth: checked before the first step, and never a value that is not finite."""

import logging
import math
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_run import TinyMetric, tiny_config

from openvocab.checkpoint import load_checkpoint
from openvocab.engine.hooks import CheckpointHook
from openvocab.engine.runner import build_runner
from openvocab.registry import METRICS


@METRICS.register_module()
class DeclaringMetric(TinyMetric):
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
