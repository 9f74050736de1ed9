"""When and what a training run saves."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mmengine
import torch
from mmengine.dist import all_gather_object, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

import openvocab
from openvocab.checkpoint import SaveFailed, link_checkpoint, save_checkpoint, to_plain
from openvocab.engine.finite_guard import check_weights
from openvocab.engine.random_state import random_state
from openvocab.registry import HOOKS

_KEPT_LOGS = 1000  # values of each logged scalar: more than any smoothing window


@HOOKS.register_module()
class CheckpointHook(Hook):
    """Save a run so that it can continue as if nothing had happened.

    Writes `iter_N.pth` and lets `last.pth` and `best.pth` name the newest and the best of them (hard links, so that no
    byte is written twice). A save that fails is a warning while training goes on, an error at its end, and where a
    signal ends it. Of numbered files it removes those that this run has written, before it was resumed too.

    Args:
        interval: iterations between saves; the last iteration is always saved.
        max_keep: numbered files to keep; 2 leaves one to go back to if the newest gets damaged.
        best: key of the metric, of which more is better, that decides about `best.pth`; None keeps no best.

    Raises:
        ValueError: an interval or a number to keep below 1.
    """

    priority = "VERY_LOW"

    def __init__(self, interval: int = 1000, max_keep: int = 2, best: str | None = "mIoU") -> None:
        if interval < 1 or max_keep < 1:
            raise ValueError(f"interval and max_keep: expected at least 1, got {interval} and {max_keep}")
        self.interval = interval
        self.max_keep = max_keep
        self.best = best
        self.best_score: float | None = None
        self._is_best = False
        self._saved: list[str] = []
        self._saved_step = 0

    def before_train(self, runner: Runner) -> None:
        """Check that no save falls between the batches of one step: half a gradient is not saved.

        Raises:
            ValueError: an interval that is not a multiple of `accumulative_counts`.
        """
        batches = runner.optim_wrapper._accumulative_counts
        for name, interval in (("checkpoint interval", self.interval), ("val_interval", runner.val_interval)):
            if interval % batches:
                raise ValueError(f"{name} {interval} is not a multiple of accumulative_counts {batches}; change one")

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Remember whether this is the best model so far.

        Raises:
            KeyError: the metric is not among the results.
        """
        if self.best is None or not metrics:
            return
        if self.best not in metrics:
            raise KeyError(f"checkpoint hook: no metric {self.best!r} to choose the best by; there are {list(metrics)}")
        score = float(metrics[self.best])
        if self.best_score is None or score > self.best_score:
            self.best_score = score
            self._is_best = True

    def after_step(self, runner: Runner) -> None:
        """Save where it is due (stage of our `TrainLoop`, behind the validation)."""
        step = runner.iter  # already counts the batch just done
        last = step >= runner.max_iters
        if not (last or self._is_best or step % self.interval == 0):
            return
        self._save(runner, must_succeed=last)
        self._is_best = False

    def on_stop(self, runner: Runner, reason: str) -> None:
        """Save where a signal ends the run (stage of our `TrainLoop`), unless that is done or nothing was trained."""
        step = runner.iter
        if all_gather_object(step > self._saved_step)[0]:  # the main rank knows
            self._save(runner, must_succeed=True)
        path = Path(runner.work_dir) / f"iter_{step}.pth"
        where = f"after step {step}: {path} holds it, --resume continues" if step else "before the first step"
        runner.logger.warning(f"{reason} {where}")

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Give mmengine its own types back when a run is resumed."""
        if not runner._resume or "message_hub" not in checkpoint:
            return
        self.best_score = checkpoint.get("best_score")
        saved = checkpoint.get("saved_files", [])
        self._saved = [name for name in saved if (Path(runner.work_dir) / name).is_file()]
        self._saved_step = checkpoint["meta"]["iter"] if saved and saved[-1] in self._saved else 0
        hub = checkpoint["message_hub"]
        hub["log_scalars"] = {key: HistoryBuffer(*value) for key, value in hub["log_scalars"].items()}

    def _save(self, runner: Runner, must_succeed: bool) -> None:
        step = runner.iter
        path = Path(runner.work_dir) / f"iter_{step}.pth"
        state = self._state(runner, path.name)  # all ranks take part
        if is_main_process():
            self._write(runner, state, path, must_succeed)

    def _write(self, runner: Runner, state: dict[str, Any], path: Path, must_succeed: bool) -> None:
        try:
            save_checkpoint(state, path)
            link_checkpoint(path, path.with_name("last.pth"))
            if self._is_best:
                link_checkpoint(path, path.with_name("best.pth"))
        except SaveFailed as error:
            if must_succeed:
                raise
            runner.logger.warning(f"{error}. Training goes on without this checkpoint")
            return
        self._saved, self._saved_step = state["saved_files"], runner.iter
        self._rotate(runner)
        best = f", best by {self.best}" if self._is_best else ""
        runner.logger.info(f"saved {path}{best}")

    def _rotate(self, runner: Runner) -> None:
        """Remove what this run has written before, but for the newest; other files are not ours to remove."""
        old, self._saved = self._saved[: -self.max_keep], self._saved[-self.max_keep :]
        for name in old:
            try:
                (Path(runner.work_dir) / name).unlink(missing_ok=True)
            except OSError as error:
                runner.logger.warning(f"cannot remove an old checkpoint: {error}")

    def _state(self, runner: Runner, name: str) -> dict[str, Any]:
        """Return everything that the next step depends on, to be saved as the file `name`.

        Raises:
            NonFiniteError: a weight is not finite, so that nothing is saved.
        """
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        check_weights(model)
        state = {
            "meta": _meta(runner),
            # cloned: another hook may exchange entries with its own
            "state_dict": {name: value.detach().cpu().clone() for name, value in model.state_dict().items()},
            "optimizer": runner.optim_wrapper.state_dict(),
            "param_schedulers": [_without_functions(s.state_dict()) for s in runner.param_schedulers or []],
            "message_hub": _message_hub(runner),
            "best_score": self.best_score,
            "saved_files": [other for other in self._saved if other != name] + [name],
            "loop": runner.train_loop.state_dict(),
            "random_states": all_gather_object(random_state()),
        }
        runner.call_hook("before_save_checkpoint", checkpoint=state)
        return state


def _meta(runner: Runner) -> dict[str, Any]:
    vocabulary = getattr(runner.train_dataloader.dataset, "vocabulary", None)
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    return {
        "iter": runner.iter,
        "epoch": runner.epoch,
        "seed": runner.seed,
        "world_size": runner.world_size,
        "batch_size": runner.train_dataloader.batch_size,
        "class_names": list(vocabulary.class_names) if vocabulary is not None else None,
        # the activation is part of CLIP weights; whoever starts from them is held to it
        "quick_gelu": getattr(getattr(model, "backbone", None), "quick_gelu", None),
        "experiment_name": runner.experiment_name,
        "config": runner.cfg.pretty_text,
        "versions": {"openvocab": openvocab.__version__, "torch": torch.__version__, "mmengine": mmengine.__version__},
    }


def _message_hub(runner: Runner) -> dict[str, Any]:
    """Return mmengine's logs and notes as plain values."""
    hub = runner.message_hub.state_dict()
    scalars = {
        key: [history.tolist()[-_KEPT_LOGS:] for history in buffer.data] for key, buffer in hub["log_scalars"].items()
    }
    notes = {key: value for key, value in hub["runtime_info"].items() if _is_plain(value) and key != "cfg"}
    kept = {key: value for key, value in hub["resumed_keys"].items() if key in scalars or key in notes}
    return {"log_scalars": scalars, "runtime_info": notes, "resumed_keys": kept}


def _is_plain(value: Any) -> bool:
    try:
        to_plain(value)
    except TypeError:
        return False
    return True


def _without_functions(state: Mapping[str, Any]) -> dict[str, Any]:
    """Drop what a scheduler's constructor sets anyway: it cannot, and need not, be saved."""
    return {key: value for key, value in state.items() if _is_plain(value)}
