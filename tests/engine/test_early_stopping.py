"""A training ends when its score no longer improves, and a resumed one ends at the same validation."""

import pytest
from mmengine.evaluator import BaseMetric
from tiny_run import tiny_config

from openvocab.checkpoint.checkpoint import load_checkpoint
from openvocab.config.config import read_config
from openvocab.engine.hooks import EarlyStoppingHook
from openvocab.engine.run_config import complete_training
from openvocab.engine.runner import build_runner
from openvocab.registry import METRICS

SCORES = [1.0, 3.0, 2.0, 2.5, float("nan"), 9.0, 9.0, 9.0]
"""Of the validations after 2, 4, 6, ... steps."""


@METRICS.register_module()
class Scripted(BaseMetric):
    """Return the scores above, one after the other, and their negatives as an error."""

    default_prefix = ""
    runner = None

    def process(self, data_batch, data_samples):
        self.results += [0] * len(data_samples)

    def compute_metrics(self, results):
        score = SCORES[Scripted.runner.iter // 2 - 1]
        return {"mIoU": score, "error": -score}


def run(work_dir, resume=False, max_iters=16, **early_stopping):
    config = tiny_config(max_iters=16, val_interval=2, interval=2)
    config.train_cfg.max_iters = max_iters
    config.val_evaluator = dict(type="Scripted")
    if early_stopping:
        config.early_stopping = early_stopping
    Scripted.runner = build_runner(config, work_dir=work_dir, resume=resume)
    Scripted.runner.train()
    return Scripted.runner.iter


@pytest.mark.parametrize(
    ("options", "end"),
    [
        (dict(patience=3), 10),  # 2.0, 2.5 and NaN after 3.0
        (dict(patience=4), 16),  # 9.0 comes in time, and is not improved on twice only
        (dict(patience=2), 8),
        (dict(patience=1), 6),
        (dict(patience=3, metric="error", larger_is_better=False), 10),
        (dict(patience=1, min_delta=5.0), 4),
        ({}, 16),
    ],
)
def test_it_ends_after_patience_validations_without_a_better_score(tmp_path, options, end):
    assert run(tmp_path, **options) == end
    last = load_checkpoint(tmp_path / "last.pth")
    assert last["meta"]["iter"] == end and (tmp_path / f"iter_{end}.pth").exists()


@pytest.mark.parametrize("first", [4, 6, 8])
def test_a_resumed_run_ends_where_it_would_have_ended_anyway(tmp_path, first):
    assert run(tmp_path, max_iters=first, patience=3) == first
    assert run(tmp_path, resume=True, patience=3) == 10


def test_a_run_that_ended_early_is_finished_unless_it_may_wait_longer(tmp_path):
    run(tmp_path, patience=3)
    run(tmp_path, resume=True, patience=3)
    assert load_checkpoint(tmp_path / "last.pth")["meta"]["iter"] == 10
    assert run(tmp_path, resume=True, patience=5) == 16


def test_an_option_of_the_command_line_sets_it():
    config = read_config("lseg_shapes", {"early_stopping.patience": 3})
    complete_training(config)
    assert config.custom_hooks == [dict(type="EarlyStoppingHook", patience=3)]
    config = read_config("lseg_shapes")
    complete_training(config)
    assert "custom_hooks" not in config


def test_a_mistake_in_its_arguments_is_told_before_training(tmp_path):
    with pytest.raises(ValueError, match="patience of 1 or more"):
        EarlyStoppingHook(patience=0)
    config = tiny_config()
    config.early_stopping, config.val_evaluator = dict(patience=1, metric="mIuO"), dict(type="MeanIoU")
    config.val_dataloader.dataset.type = "TinyDataset"
    with pytest.raises(KeyError, match="did you mean 'mIoU'.*early_stopping.metric"):
        build_runner(config, work_dir=tmp_path / "a").train()
    config = tiny_config()
    config.early_stopping, config.default_hooks.checkpoint.best = dict(patience=1), None
    with pytest.raises(ValueError, match="set its metric"):
        build_runner(config, work_dir=tmp_path / "b").train()
    config.val_evaluator = config.val_dataloader = config.val_cfg = None
    with pytest.raises(ValueError, match="needs a validation"):
        build_runner(config, work_dir=tmp_path / "c").train()
