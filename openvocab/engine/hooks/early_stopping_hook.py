"""End a training whose score no longer improves."""

import logging
import math
from collections.abc import Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from openvocab.engine.hooks.checkpoint_hook import CheckpointHook, check_key
from openvocab.registry import HOOKS

logger = logging.getLogger(__name__)


@HOOKS.register_module()
class EarlyStoppingHook(Hook):
    """End a training after `patience` validations in a row without a better score.

    In a config, `early_stopping = dict(patience=5)` adds it. The last iteration is saved as at the planned end.
    Checkpoints hold how long the score has not improved, so that a resumed run stops where it would have stopped
    anyway, and a run that has stopped counts as finished, unless `patience` has been raised.

    Args:
        patience: number of validations without an improvement that end the run.
        metric: key among the results of the validation; default: the one by which `best.pth` is chosen.
        larger_is_better: False for an error or a loss.
        min_delta: smallest change of the score that counts as an improvement, in the unit of the metric.

    Raises:
        ValueError: `patience` is below 1 or `min_delta` below 0; or, when training starts, there is no validation, or
            no `metric` and no `best.pth`.
    """

    def __init__(
        self, patience: int, metric: str | None = None, larger_is_better: bool = True, min_delta: float = 0.0
    ) -> None:
        if patience < 1 or min_delta < 0:
            expected = "expected patience of 1 or more and min_delta of 0 or more"
            raise ValueError(f"early stopping: {expected}, got {patience} and {min_delta}")
        self.patience, self.metric = patience, metric
        self.larger_is_better, self.min_delta = larger_is_better, min_delta
        self._best: float | None = None
        self._waited = 0

    def before_train(self, runner: Runner) -> None:
        """Find the metric.

        Raises:
            ValueError: see the class.
            KeyError: no metric of the validation returns it.
        """
        if runner.val_loop is None:
            raise ValueError("early stopping needs a validation, and the config has no val_evaluator")
        self.metric = self.metric or _best_key(runner)
        if self.metric is None:
            raise ValueError("early stopping: set its metric, since no best checkpoint is chosen by one")
        check_key(runner, self.metric, "early stopping", "early_stopping.metric")

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Compare the score with the best one; end the run if it has not improved for too long.

        Raises:
            KeyError: the metric is not among the results.
        """
        if not metrics or self.metric is None:
            return
        if self.metric not in metrics:
            raise KeyError(f"early stopping: no metric {self.metric!r}; there are {', '.join(metrics)}")
        score = float(metrics[self.metric])
        if self._is_better(score):
            self._best, self._waited = score, 0
            return
        self._waited += 1
        if self._waited >= self.patience:
            runner.train_loop.stop_training = True
            logger.info(f"stopped early: {self.metric} has not improved in {self._waited} validations")

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Store how long the score has not improved."""
        checkpoint["early_stopping"] = {"metric": self.metric, "best": self._best, "waited": self._waited}

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Continue to wait where the checkpoint did, if it is of the same metric."""
        state = checkpoint.get("early_stopping") or {}
        if runner._resume and state.get("metric") == (self.metric or _best_key(runner)):
            self._best, self._waited = state["best"], state["waited"]

    def has_ended(self, checkpoint: Mapping[str, Any]) -> bool:
        """Return whether the run of a checkpoint had waited for as long as `patience` allows."""
        state = checkpoint.get("early_stopping") or {}
        return self.metric in (None, state.get("metric")) and state.get("waited", 0) >= self.patience

    def _is_better(self, score: float) -> bool:
        if not math.isfinite(score):
            return False
        gain = math.inf if self._best is None else (score - self._best) * (1 if self.larger_is_better else -1)
        return gain > self.min_delta


def _best_key(runner: Runner) -> str | None:
    return next((hook.best for hook in runner.hooks if isinstance(hook, CheckpointHook)), None)
