"""The checkpoints of a training run: when they are saved, and what they hold."""

import difflib
import logging
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import mmengine
import torch
from mmengine.device import get_device
from mmengine.dist import all_gather_object, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner

from openvocab import version
from openvocab.checkpoint.checkpoint import (
    SaveFailed,
    is_numbered,
    is_plain,
    link_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from openvocab.config.saved import config_to_data
from openvocab.datasets.contracts import vocabulary_of
from openvocab.engine.optim_wrapper import StatesComputeDtype
from openvocab.engine.random_state import random_state
from openvocab.engine.training_plan import plain_state
from openvocab.finite_guard import check_weights
from openvocab.metrics.base import Metric, declared_keys
from openvocab.model import OpenVocabModel
from openvocab.process.matmul_precision import matmul_precision
from openvocab.registry import HOOKS

logger = logging.getLogger(__name__)

_BEST_ARGUMENT = ("checkpoint hook", "default_hooks.checkpoint.best")
_LOG_LENGTH = 1000  # of each logged scalar: more than any smoothing window


@HOOKS.register_module()
class CheckpointHook(Hook):
    """Save a run so that it can continue as if it had not been interrupted.

    Writes `iter_N.pth`, and lets `last.pth` and `best.pth` name the newest and the best of these files (by hard links,
    so that no byte is written twice). A failed save causes a warning while training continues, and an error at the end
    of training or when a signal ends it. Only numbered files that this run has written are removed, including those
    from before it was resumed.

    Args:
        interval: iterations between saves; the last iteration is always saved. None: as often as the run validates.
        max_keep: number of `iter_N.pth` files to keep; 2 leaves an older one if the newest gets damaged.
        best: key of the metric by which `best.pth` is chosen, larger is better; None for no `best.pth`. A value that is
            not finite (a mean over no class) is never the best.

    Raises:
        ValueError: `interval` or `max_keep` is below 1.
    """

    priority = "VERY_LOW"

    def __init__(self, interval: int | None = 1000, max_keep: int = 2, best: str | None = "mIoU") -> None:
        if (interval is not None and interval < 1) or max_keep < 1:
            raise ValueError(f"interval and max_keep: expected at least 1, got {interval} and {max_keep}")
        self.interval = interval
        self.max_keep = max_keep
        self.best = best
        self.best_score: float | None = None
        self._is_best = False
        self._previous_best: float | None = None
        self._saved: list[str] = []
        self._saved_step = 0
        self._has_warned = False

    def before_train(self, runner: Runner) -> None:
        """Check before training what would otherwise fail during or after it.

        Raises:
            KeyError: no metric of the validation returns the key `best`.
            ValueError: an interval is not a multiple of `accumulative_counts` (an incomplete gradient is not saved); or
                there is a `best`, but no validation.
        """
        self._check_best(runner)
        batches = runner.optim_wrapper._accumulative_counts
        for name, interval in (("checkpoint interval", self.interval), ("val_interval", runner.val_interval)):
            if interval is not None and interval % batches:
                raise ValueError(f"{name} {interval} is not a multiple of accumulative_counts {batches}; change one")

    def _check_best(self, runner: Runner) -> None:
        if self.best is None:
            return
        if runner.val_loop is None:
            raise ValueError(
                f"checkpoint hook: best={self.best!r} needs a validation, and the config has no val_evaluator; "
                "set default_hooks.checkpoint.best=None to keep no best"
            )
        check_key(runner, self.best, *_BEST_ARGUMENT)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Remember whether this is the best model so far.

        Raises:
            KeyError: the key `best` is not among the results.
        """
        if self.best is None or not metrics:
            return
        _require_key(self.best, metrics, *_BEST_ARGUMENT)
        score = float(metrics[self.best])
        if not math.isfinite(score):
            self._warn_once(score)
        elif self.best_score is None or score > self.best_score:
            self._previous_best, self.best_score = self.best_score, score
            self._is_best = True

    def _warn_once(self, score: float) -> None:
        if not self._has_warned:
            logger.warning(f"{self.best} is {score}: such a model is never the best")
            self._has_warned = True

    def after_step(self, runner: Runner) -> None:
        """Save if it is due (stage of our `TrainLoop`, after the validation)."""
        step = runner.iter  # includes the batch just done
        is_last = step >= runner.max_iters or runner.train_loop.stop_training
        if not (is_last or self._is_best or step % (self.interval or runner.val_interval) == 0):
            return
        self._save(runner, must_succeed=is_last)
        self._is_best = False

    def on_stop(self, runner: Runner, reason: str) -> None:
        """Save when a signal ends the run (stage of our `TrainLoop`), unless it is saved or nothing was trained."""
        step = runner.iter
        if all_gather_object(step > self._saved_step)[0]:  # as the main rank decides
            self._save(runner, must_succeed=True)
        path = Path(runner.work_dir) / f"iter_{step}.pth"
        where = f"after step {step}: {path} holds it, --resume continues" if step else "before the first step"
        runner.logger.warning(f"{reason} {where}")

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Take over the list of saved files of a resumed run, and its best score if that is of the same metric."""
        if not runner._resume:
            return
        self.best_score = all_gather_object(self._restored_best(runner, checkpoint) if is_main_process() else None)[0]
        saved = checkpoint.get("saved_files", [])
        folder = Path(runner.work_dir)
        self._saved = [name for name in saved if is_numbered(name) and (folder / name).is_file()]
        self._saved_step = checkpoint["meta"]["iter"] if saved and saved[-1] in self._saved else 0

    def after_finished_run(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Update `last.pth` and `best.pth` of a finished run that was killed before it could (stage of our runner)."""
        source, last = Path(runner.resume_from), Path(runner.work_dir) / "last.pth"
        if not is_main_process() or source.resolve().parent != last.resolve().parent:
            return
        self._restored_best(runner, checkpoint)
        if not (last.exists() and last.samefile(source)):
            link_checkpoint(source, last)

    def _restored_best(self, runner: Runner, checkpoint: Mapping[str, Any]) -> float | None:
        """Return the score of `best.pth`; if only a kill prevented it, the resumed file becomes `best.pth`."""
        score = _best_score(checkpoint, self.best)
        source, best = Path(runner.resume_from), Path(runner.work_dir) / "best.pth"
        if score is None or (best.exists() and best.samefile(source)):
            return score
        linked_score = _best_score(_read_or_nothing(best), self.best)
        if not checkpoint.get("is_best") or (linked_score is not None and linked_score >= score):
            return linked_score
        try:
            link_checkpoint(source, best)
        except SaveFailed as error:
            logger.warning(f"{error}. Training continues without it")
            return linked_score
        return score

    def _save(self, runner: Runner, must_succeed: bool) -> None:
        step = runner.iter
        path = Path(runner.work_dir) / f"iter_{step}.pth"
        state = self._state(runner, path.name)  # all ranks take part
        failure = self._write(runner, state, path) if is_main_process() else None
        if all_gather_object(failure is None)[0]:  # as the main rank decides
            return
        if self._is_best:
            self.best_score = self._previous_best
        if failure is not None and must_succeed:
            raise failure
        if failure is not None:
            runner.logger.warning(f"{failure}. Training continues without this checkpoint")

    def _write(self, runner: Runner, state: dict[str, Any], path: Path) -> SaveFailed | None:
        """Write the files of a step; return the error if that fails."""
        try:
            save_checkpoint(state, path)
            link_checkpoint(path, path.with_name("last.pth"))
            if self._is_best:
                link_checkpoint(path, path.with_name("best.pth"))
        except SaveFailed as error:
            return error
        self._saved, self._saved_step = state["saved_files"], runner.iter
        self._rotate(runner)
        best = f", best by {self.best}" if self._is_best else ""
        runner.logger.info(f"saved {path}{best}")
        return None

    def _rotate(self, runner: Runner) -> None:
        """Remove the older files that this run has written; other files are not ours to remove."""
        old, self._saved = self._saved[: -self.max_keep], self._saved[-self.max_keep :]
        for name in old:
            try:
                (Path(runner.work_dir) / name).unlink(missing_ok=True)
            except OSError as error:
                runner.logger.warning(f"cannot remove an old checkpoint: {error}")

    def _state(self, runner: Runner, name: str) -> dict[str, Any]:
        """Return everything that the next step depends on, to be saved as the file `name`.

        Raises:
            NonFiniteError: a weight is not finite; nothing is saved then.
        """
        model = runner.unwrapped_model
        check_weights(model)
        state = {
            "meta": _meta(runner),
            # cloned: another hook may swap entries with its own
            "state_dict": {name: value.detach().cpu().clone() for name, value in model.state_dict().items()},
            "optimizer": runner.optim_wrapper.state_dict(),
            "param_schedulers": [plain_state(s.state_dict()) for s in runner.param_schedulers or []],
            "plan": runner.plan,
            "message_hub": _message_hub(runner),
            "best_score": self.best_score,
            "is_best": self._is_best,
            "saved_files": [other for other in self._saved if other != name] + [name],
            "best_metric": self.best,
            "loop": runner.train_loop.state_dict(),
            "random_states": all_gather_object(random_state()),
        }
        runner.call_hook("before_save_checkpoint", checkpoint=state)
        return state


def check_key(runner: Runner, key: str, who: str, argument: str) -> None:
    """Check before training that a validation returns a score, if all of its metrics declare their keys.

    Args:
        runner: with a validation.
        key: of the score.
        who: needs it, for the message.
        argument: of the config that states the key.

    Raises:
        KeyError: no metric returns it; the message lists the keys.
    """
    vocabulary = vocabulary_of(runner.val_dataloader.dataset)
    keys: list[str] = []
    for metric in runner.val_evaluator.metrics:
        if not isinstance(metric, Metric):
            return  # it does not declare its keys, which are checked after the first validation
        keys += declared_keys(metric, vocabulary)
    _require_key(key, keys, who, argument)


def _require_key(key: str, keys: Collection[str], who: str, argument: str) -> None:
    if key not in keys:
        close = difflib.get_close_matches(key, keys, n=1, cutoff=0.4)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise KeyError(f"{who}: no metric {key!r}; {hint}there are {', '.join(keys)}; change {argument}")


def _best_score(content: Mapping[str, Any], metric: str | None) -> float | None:
    """Return the best score that a checkpoint holds, if it is of `metric`."""
    score = content.get("best_score")
    if content.get("best_metric", metric) != metric or not isinstance(score, (int, float)):
        return None
    return float(score)


def _read_or_nothing(path: Path) -> Mapping[str, Any]:
    """Return the content of a checkpoint without its tensors; {} if it is missing or damaged."""
    try:
        return load_checkpoint(path, map_location="meta")
    except (OSError, ValueError):
        return {}


def _meta(runner: Runner) -> dict[str, Any]:
    """Return the facts that `resume_run` and users of the file read."""
    dataset, model, wrapper = runner.train_dataloader.dataset, runner.unwrapped_model, runner.optim_wrapper
    vocabulary = vocabulary_of(dataset)
    is_ours = isinstance(model, OpenVocabModel)
    return {
        "iter": runner.iter,
        "epoch": runner.epoch,
        "seed": runner.seed,
        "world_size": runner.world_size,
        "batch_size": runner.train_dataloader.batch_size,
        "num_threads": torch.get_num_threads(),
        "compute_dtype": wrapper.compute_dtype if isinstance(wrapper, StatesComputeDtype) else None,
        "matmul_precision": matmul_precision(get_device()),
        "samples": len(dataset) if hasattr(dataset, "__len__") else None,
        "class_names": list(vocabulary.class_names) if vocabulary is not None else None,
        # CLIP weights are bound to their activation: a config that starts from them must have the same
        "quick_gelu": model.backbone.quick_gelu if is_ours else None,
        "bidirectional_text": model.text_encoder.bidirectional if is_ours else None,
        "experiment_name": runner.experiment_name,
        "config": config_to_data(runner.cfg),
        "versions": {"openvocab": version.__version__, "torch": torch.__version__, "mmengine": mmengine.__version__},
    }


def _message_hub(runner: Runner) -> dict[str, Any]:
    """Return the logged scalars and the notes of mmengine's message hub as plain values."""
    hub = runner.message_hub.state_dict()
    scalars = {
        key: [history.tolist()[-_LOG_LENGTH:] for history in buffer.data] for key, buffer in hub["log_scalars"].items()
    }
    notes = {key: value for key, value in hub["runtime_info"].items() if is_plain(value) and key != "cfg"}
    resumed = {key: value for key, value in hub["resumed_keys"].items() if key in scalars or key in notes}
    return {"log_scalars": scalars, "runtime_info": notes, "resumed_keys": resumed}
