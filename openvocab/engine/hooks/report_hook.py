"""Let a training report itself: tables, pictures and a page in its work dir."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from openvocab.engine.hooks.checkpoint_hook import CheckpointHook
from openvocab.engine.run_facts import config_facts, duration, environment_facts, short_path
from openvocab.metrics.units import with_unit
from openvocab.model import OpenVocabModel
from openvocab.registry import HOOKS
from openvocab.report.next_commands import NAMES, config_to_test, next_commands, resume_command
from openvocab.report.run_report import RunReport
from openvocab.report.scalar_recorder import ScalarRecorder
from openvocab.structures import ClassificationPrediction, Sample

logger = logging.getLogger(__name__)


@HOOKS.register_module()
class ReportHook(Hook):
    """Write what a run has done into its work dir, and the best score and the next command into its log.

    `results.csv` gets a line whenever numbers are logged. `per_class.csv`, `curves.png`, `confusion_matrix.png`,
    `precision_recall.png`, `val_predictions.png` and `report.html`, which contains all of it, are written after a
    validation, if that keeps the time for reports below `max_share`, and at the end. `train_batch_N.png` shows the
    first batches as the network gets them, with their targets. Checkpoints hold what a report needs of the past, so
    that a resumed run reports the whole run.

    Nothing of this changes the training, and a report that cannot be made or written is one warning.

    Args:
        num_batches: number of training batches that are drawn.
        num_predictions: number of validated images that are drawn, evenly spread over the data.
        max_share: share of the training time that reports may take before the last one.

    Raises:
        ValueError: a number below 0.
    """

    priority = "LOWEST"  # its lines are the last ones of the log

    def __init__(self, num_batches: int = 3, num_predictions: int = 6, max_share: float = 0.01) -> None:
        if min(num_batches, num_predictions, max_share) < 0:
            given = f"{num_batches}, {num_predictions} and {max_share}"
            raise ValueError(f"num_batches, num_predictions and max_share: expected 0 or more, got {given}")
        self.num_batches, self.num_predictions, self.max_share = num_batches, num_predictions, max_share
        self.report: RunReport | None = None
        """Of the main rank, while a training runs."""
        self._earlier: Any = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Take the report of the run so far out of the checkpoint that it continues from."""
        self._earlier = checkpoint.get("report") if runner._resume else None

    def before_train(self, runner: Runner) -> None:
        """Begin to record what is logged; of several ranks, only the main one does."""
        if is_main_process():
            self.report = RunReport(Path(runner.work_dir), self._earlier, _best_key(runner))
            runner.visualizer._vis_backends["report"] = ScalarRecorder(self._take_scalars)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Draw the first batches."""
        if self.report is not None and runner.iter < self.num_batches:
            self.report.draw_batch(runner.unwrapped_model, data_batch, runner.iter)

    def before_val_epoch(self, runner: Runner) -> None:
        """Forget the predictions of the validation before."""
        if self.report is not None:
            self.report.examples = []

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Sequence[Any] | None = None
    ) -> None:
        """Keep some predictions, evenly spread over the data of this rank."""
        if self.report is None or not outputs or not isinstance(data_batch, Mapping) or "sample" not in data_batch:
            return
        batches = _spread(len(runner.val_dataloader), self.num_predictions)
        if batch_idx in batches:
            room = self.num_predictions - len(self.report.examples)
            positions = _spread(len(outputs), min(room, math.ceil(self.num_predictions / len(batches))))
            pairs = [(data_batch["sample"][position], outputs[position]) for position in positions]
            self.report.examples += [pair for pair in pairs if isinstance(pair[0], Sample)]

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Record a validation, and write the report if there is time for it."""
        if self.report is None or metrics is None:
            return
        self.report.take_validation(runner.iter, metrics, runner.val_evaluator.metrics)
        if self.report.has_time(self.max_share):
            status = f"still running; written at iteration {runner.iter} of {runner.max_iters}"
            self.report.write(status, partial(self._describe, runner, self._commands))

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Store what a resumed run needs to report the whole run."""
        if self.report is not None:
            self.report.store(checkpoint)

    def on_stop(self, runner: Runner, reason: str) -> None:
        """Write the report of a run that a signal ends (stage of our `TrainLoop`)."""
        if self.report is not None:
            status = f"{reason} after iteration {runner.iter} of {runner.max_iters}"
            self.report.write(status, partial(self._describe, runner, lambda _: [("continue", resume_command())]))

    def after_train(self, runner: Runner) -> None:
        """Write the last report, and end the log with the best score and the next commands."""
        if self.report is not None:
            planned = f" of {runner.max_iters}: stopped early" if runner.iter < runner.max_iters else ""
            self.report.write(
                f"finished at iteration {runner.iter}{planned}", partial(self._describe, runner, self._commands)
            )
            self.report.log_end(partial(self._last_lines, runner, self.report))

    def _take_scalars(self, iteration: int, values: Mapping[str, Any]) -> None:
        if self.report is not None and "iter" in values:  # of the training: validations come with their details
            self.report.take_row(iteration, values)

    def _describe(self, runner: Runner, commands: Any) -> tuple[list[tuple[str, str]], dict[str, dict[str, str]]]:
        return commands(runner), {"Config": config_facts(runner), "Environment": environment_facts(runner)}

    def _commands(self, runner: Runner) -> list[tuple[str, str]]:
        """Return the commands to test, and to predict with, the best weights that are there."""
        weights = _best_weights(runner)
        if weights is None:
            return []
        examples = self.report.examples if self.report is not None else []
        names: Sequence[str] = examples[0][1].vocabulary.class_names if examples else NAMES
        if not isinstance(runner.unwrapped_model, OpenVocabModel) or any(
            isinstance(prediction, ClassificationPrediction) for _, prediction in examples
        ):
            names = ()
        return next_commands(short_path(config_to_test(runner.cfg, runner.work_dir)), short_path(weights), names)

    def _last_lines(self, runner: Runner, report: RunReport) -> Iterator[str]:
        best, key, weights = report.record.best_score(), report.record.best_key, _best_weights(runner)
        saved = "" if weights is None else f": {short_path(weights)}"
        if best is not None:
            score = with_unit(best[0], report.record.units.get(str(key), ""))
            yield f"best {key}: {score} at iteration {best[1]}{saved}"
        elif saved:
            yield f"weights{saved}"
        part, whole = report.part_seconds(), report.seconds()
        in_all = f", {duration(whole)} with the parts before it was resumed" if report.is_resumed else ""
        yield f"took {duration(part)}{in_all}; the report: {short_path(report.folder / 'report.html')}"
        for what, command in self._commands(runner):
            yield f"to {what}: {command}"


def _best_key(runner: Runner) -> str | None:
    """Return the score by which `best.pth` is chosen."""
    return next((hook.best for hook in runner.hooks if isinstance(hook, CheckpointHook)), None)


def _best_weights(runner: Runner) -> Path | None:
    """Return the path of the best weights, or of the last ones if none are the best; None if nothing is saved."""
    paths = [Path(runner.work_dir) / name for name in ("best.pth", "last.pth")]
    return next((path for path in paths if path.exists()), None)


def _spread(number: int, count: int) -> list[int]:
    """Return at most `count` of the positions 0..number - 1, evenly spread and ascending."""
    return sorted({int(position) for position in np.linspace(0, number - 1, min(number, count)).round()})
