"""The training loop: mmengine's, made resumable to the bit."""

import logging
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from mmengine.dist import all_gather_object, broadcast
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, IterBasedTrainLoop, Runner
from mmengine.runner.utils import calc_dynamic_intervals
from torch.utils.data import DataLoader

from openvocab.datasets.contracts import ResumableOrder, ResumableStream, StatesFacts
from openvocab.engine.evaluation_loops import leave_validation
from openvocab.engine.loader import batches_of
from openvocab.engine.optim_wrapper import OTHER_RANK
from openvocab.engine.random_state import random_state, restore_random_state, set_random_state
from openvocab.engine.stopping import Stopped
from openvocab.finite_guard import NonFiniteError
from openvocab.registry import LOOPS


@LOOPS.register_module()
class TrainLoop(IterBasedTrainLoop):
    """Train for `max_iters` batches, validating every `val_interval` of them.

    It differs from mmengine's loop in these things. A resumed run starts its sampler at the next draw instead of
    loading and dropping all earlier batches; a dataset without sampler (a stream, such as `WebCaptionDataset`) is told
    where each of its loader workers stood, by the positions that came with the batches. Hooks have two more stages:
    `after_step`, behind the validation that may follow a batch: what is saved there needs nothing repeated; and
    `on_stop`, where a signal ends the run between two steps of the optimizer, or in a validation, which is then
    repeated when the run is resumed. A value that is not finite is reported with its samples, or its step left out.

    Args:
        max_iters: batches in all.
        val_begin: first iteration that may validate.
        val_interval: iterations between validations.
        dynamic_intervals: `[(iteration, interval), ...]`, the interval from there on.
        nonfinite: what to do about a loss or gradient that is NaN or infinite: "raise" ends the run; "skip" leaves the
            step out on all ranks, and goes on.
        max_skips: steps that a run may leave out, the resumed parts of it together; the next one ends it.

    Raises:
        ValueError: `nonfinite` is neither word, or `max_skips` is below 1.
    """

    draws: int = 0
    """Samples that all ranks together have drawn so far."""
    num_skipped: int = 0
    """Steps left out so far because something was not finite."""
    _random_states: list[dict] | None = None
    _stream_progress: dict[int, dict] | None = None
    _is_unvalidated: bool = False

    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | dict,
        max_iters: int,
        val_begin: int = 1,
        val_interval: int = 1000,
        dynamic_intervals: list[tuple[int, int]] | None = None,
        nonfinite: Literal["raise", "skip"] = "raise",
        max_skips: int = 10,
    ) -> None:
        if nonfinite not in ("raise", "skip") or max_skips < 1:
            raise ValueError(
                f"nonfinite and max_skips: expected 'raise' or 'skip' and at least 1, got {nonfinite!r} and {max_skips}"
            )
        # not mmengine's own, which starts the loader's workers before it is known where they are to begin
        BaseLoop.__init__(self, runner, dataloader)
        self._max_iters, self._max_epochs = int(max_iters), 1
        self._iter = self._epoch = 0
        self.val_begin, self.val_interval = val_begin, val_interval
        self.stop_training = False
        self.nonfinite, self.max_skips = nonfinite, max_skips
        self.dynamic_milestones, self.dynamic_intervals = calc_dynamic_intervals(val_interval, dynamic_intervals)
        dataset = self.dataloader.dataset
        runner.visualizer.dataset_meta = dataset.metainfo if isinstance(dataset, StatesFacts) else None

    def state_dict(self) -> dict[str, Any]:
        """Return where the data stands; all ranks must call it."""
        state: dict[str, Any] = {"draws": self.draws}
        if self.num_skipped:
            state["skipped"] = self.num_skipped
        if self._is_unvalidated:
            state["unvalidated"] = True
        if self._stream is not None:
            progress = [item for of_rank in all_gather_object(self._stream.progress()) for item in of_rank.items()]
            state["stream"] = dict(progress)
        return state

    def resume_at(self, state: dict[str, Any], random_states: list[dict]) -> None:
        """Continue from a checkpoint: `state` of this class, and one random state a rank."""
        self.draws = state["draws"]
        self.num_skipped = state.get("skipped", 0)
        self._is_unvalidated = state.get("unvalidated", False)
        self._stream_progress = state.get("stream")
        self._random_states = random_states

    def run(self) -> torch.nn.Module:
        """Train to the end and return the model.

        Raises:
            Stopped: a signal ended it; what can be resumed from is saved.
            LoaderFailed: a loader worker hangs or was killed.
        """
        self.runner.optim_wrapper.shares_verdict = self.nonfinite == "skip"
        self.runner.call_hook("before_train")
        self.runner.call_hook("before_train_epoch")
        self._position_data()
        with self.runner.stop_request.held(), batches_of(self.dataloader, "train_dataloader") as batches:
            if self._random_states is not None:
                restore_random_state(self._random_states)
            self._run(batches)
        self.runner.call_hook("after_train_epoch")
        self.runner.call_hook("after_train")
        return self.runner.model

    def run_iter(self, data_batch: dict[str, Any]) -> None:
        """Train on one batch.

        Raises:
            NonFiniteError: with the step and the samples of the batch.
        """
        before = self._buffers() if self.nonfinite == "skip" else {}
        try:
            super().run_iter(data_batch)
        except NonFiniteError as error:
            located = error.located(self._iter + 1, _sample_ids(data_batch))
            if self.nonfinite == "raise":
                raise located from None
            self._skip(located, before, data_batch)

    def _run(self, batches: Iterator[Any]) -> None:
        if self._is_unvalidated and self.runner.val_loop is not None:
            self._validate()
            self.runner.call_hook("after_step")
        self._is_unvalidated = False  # the config may have no validation any more
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            batch = self._next(batches)
            self.run_iter(batch)
            if self._stream is not None:
                self._stream.note_consumed(batch["position"])
            self.draws += self.dataloader.batch_size * self.runner.world_size
            self._decide_current_val_interval()
            if self._validation_is_due():
                self._validate()
            self.runner.call_hook("after_step")

    def _next(self, batches: Iterator[Any]) -> Any:
        """Return the next batch, or stop in its place: also while it is being waited for, if workers make it."""
        is_between_steps = self._iter % self.runner.optim_wrapper._accumulative_counts == 0
        if is_between_steps and self.runner.stop_request.is_agreed():
            self._stop()
        try:
            with self.runner.stop_request.released(is_between_steps and self.dataloader.num_workers > 0):
                return next(batches)
        except Stopped:
            self._stop()

    def _validate(self) -> None:
        """Validate; a signal leaves it, so that it is repeated when the run is resumed."""
        before = random_state()
        self._is_unvalidated = True
        self._share_buffers()
        try:
            self.runner.val_loop.run()
        except Stopped:
            leave_validation(self.runner)
            set_random_state(before)
            self._stop()
        self._is_unvalidated = False

    def _stop(self) -> None:
        """Let hooks save, and end the run."""
        number = self.runner.stop_request.number
        self.runner.call_hook("on_stop", reason=str(Stopped(number)))
        raise Stopped(number, is_logged=True)

    def _skip(self, error: NonFiniteError, before: dict[str, torch.Tensor], data_batch: dict[str, Any]) -> None:
        """Leave out the step of a batch on all ranks, as if it had only been drawn.

        Raises:
            NonFiniteError: too many were left out already.
        """
        self.runner.optim_wrapper.is_bad_anywhere(True)  # others may be waiting for this rank's verdict
        gathered = all_gather_object(None if error.what == OTHER_RANK else error.report)
        reports = list(dict.fromkeys(report for report in gathered if report is not None))
        if self.num_skipped >= self.max_skips:
            raise NonFiniteError(f"{'; '.join(reports)}, after max_skips={self.max_skips} steps were left out")
        self.num_skipped += 1
        note = f"left out step {self._iter + 1}, number {self.num_skipped} of at most {self.max_skips}"
        self.runner.logger.log(logging.WARNING, f"{note}: not finite: {'; '.join(reports)}")
        for name, buffer in self._buffers(copied=False).items():
            buffer.copy_(before[name])  # batch norms have seen the bad batch
        self.runner.optim_wrapper.drop_step(self._iter + 1)
        self.runner.call_hook("after_train_iter", batch_idx=self._iter, data_batch=data_batch, outputs={})
        self._iter += 1

    def _buffers(self, copied: bool = True) -> dict[str, torch.Tensor]:
        buffers = self.runner.unwrapped_model.named_buffers()
        return {name: buffer.clone() if copied else buffer for name, buffer in buffers}

    def _position_data(self) -> None:
        """Set the sampler, or the stream, to the next draw."""
        sampler = self.dataloader.sampler
        if self._stream is not None:
            self._stream.start_at(self._stream_progress or {}, seed=self.runner.seed)
        elif isinstance(sampler, ResumableOrder):
            sampler.start_at(self.draws)
        elif self._iter > 0:
            self.runner.logger.warning(
                f"{type(sampler).__name__} cannot be resumed: the data starts from its beginning. "
                "Use ResumableSampler in train_dataloader"
            )

    @property
    def _stream(self) -> ResumableStream | None:
        """The dataset, if it is a stream that can be resumed."""
        dataset = self.dataloader.dataset
        return dataset if isinstance(dataset, ResumableStream) else None

    def _validation_is_due(self) -> bool:
        if self.runner.val_loop is None or self._iter < self.val_begin:
            return False
        return self._iter % self.val_interval == 0 or self._iter == self._max_iters

    def _share_buffers(self) -> None:
        """Give all ranks the running statistics of rank 0, whose weights are the ones that get saved."""
        if is_model_wrapper(self.runner.model):
            for buffer in self.runner.model.module.buffers():
                broadcast(buffer)


def _sample_ids(data_batch: Any) -> Sequence[str]:
    samples = data_batch.get("sample", ()) if isinstance(data_batch, dict) else ()
    return [sample.sample_id for sample in samples]
