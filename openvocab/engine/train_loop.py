"""The training loop: mmengine's, but a resumed run equals, bit for bit, one that was not interrupted."""

import logging
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NoReturn

import torch
from mmengine.dist import all_gather_object, broadcast
from mmengine.model import is_model_wrapper
from mmengine.runner import BaseLoop, IterBasedTrainLoop, Runner
from mmengine.runner.utils import calc_dynamic_intervals
from torch import Tensor
from torch.utils.data import DataLoader

from openvocab.argument_checks import check_choice
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
    """Train for `max_iters` batches, and validate every `val_interval` batches.

    It differs from mmengine's loop as follows. A resumed run starts its sampler at the next draw instead of loading
    and dropping all earlier batches; a dataset without a sampler (a stream, such as `WebCaptionDataset`) gets the
    position of each of its loader workers, which came with the batches. Hooks have two more stages: `after_step`, after
    the validation that may follow a batch, so that a run resumed from what is saved there repeats nothing; and
    `on_stop`, when a signal ends the run between two steps of the optimizer, or in a validation, which a resumed run
    repeats. A value that is not finite is reported with its samples, or its step is skipped.

    Args:
        runner: the runner.
        dataloader: the training loader, or its config.
        max_iters: number of batches in all.
        val_begin: first iteration that may validate.
        val_interval: iterations between validations.
        dynamic_intervals: `[(iteration, interval), ...]`: from each iteration on, its interval.
        nonfinite: what to do about a loss or gradient that is NaN or infinite: "raise" ends the run; "skip" skips the
            step on all ranks, and continues.
        max_skips: number of steps that a run may skip, over all its resumed parts; the next one ends it.

    Raises:
        ValueError: `nonfinite` is not one of the choices, or `max_skips` is below 1.
    """

    draws: int = 0
    """Number of samples that all ranks together have drawn so far."""
    num_skipped: int = 0
    """Number of steps skipped so far because a value was not finite."""
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
        check_choice("nonfinite", nonfinite, ("raise", "skip"))
        if max_skips < 1:
            raise ValueError(f"max_skips: expected at least 1, got {max_skips}")
        # not mmengine's constructor, which starts the loader's workers before it is known where they have to begin
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
        """Return the position in the data; all ranks must call it."""
        state: dict[str, Any] = {"draws": self.draws}
        if self.num_skipped:
            state["skipped"] = self.num_skipped
        if self._is_unvalidated:
            state["unvalidated"] = True
        if self._stream is not None:
            rank_progress = all_gather_object(self._stream.progress())
            state["stream"] = dict(item for progress in rank_progress for item in progress.items())
        return state

    def resume_at(self, state: dict[str, Any], random_states: list[dict]) -> None:
        """Continue from a checkpoint: `state` from `state_dict`, and one random state per rank."""
        self.draws = state["draws"]
        self.num_skipped = state.get("skipped", 0)
        self._is_unvalidated = state.get("unvalidated", False)
        self._stream_progress = state.get("stream")
        self._random_states = random_states

    def run(self) -> torch.nn.Module:
        """Train to the end and return the model.

        Raises:
            Stopped: a signal ended it; a checkpoint to resume from is saved.
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
        earlier_buffers = self._buffers() if self.nonfinite == "skip" else {}
        try:
            super().run_iter(data_batch)
        except NonFiniteError as error:
            located = error.located(self._iter + 1, _sample_ids(data_batch))
            if self.nonfinite == "raise":
                raise located from None
            self._skip(located, earlier_buffers, data_batch)

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
        """Return the next batch, or stop instead: also while waiting for it, if workers load it."""
        is_between_steps = self._iter % self.runner.optim_wrapper._accumulative_counts == 0
        if is_between_steps and self.runner.stop_request.is_agreed():
            self._stop()
        try:
            with self.runner.stop_request.released(is_between_steps and self.dataloader.num_workers > 0):
                return next(batches)
        except Stopped:
            self._stop()

    def _validate(self) -> None:
        """Validate; after a signal, leave the validation, which a resumed run repeats."""
        earlier_random_state = random_state()
        self._is_unvalidated = True
        self._share_buffers()
        try:
            self.runner.val_loop.run()
        except Stopped:
            leave_validation(self.runner)
            set_random_state(earlier_random_state)
            self._stop()
        self._is_unvalidated = False

    def _stop(self) -> NoReturn:
        """Let hooks save, and end the run."""
        number = self.runner.stop_request.number
        self.runner.call_hook("on_stop", reason=str(Stopped(number)))
        raise Stopped(number, is_logged=True)

    def _skip(self, error: NonFiniteError, earlier_buffers: dict[str, Tensor], data_batch: dict[str, Any]) -> None:
        """Skip the step of a batch on all ranks, as if the batch had only been drawn.

        Raises:
            NonFiniteError: too many steps were skipped already.
        """
        self.runner.optim_wrapper.is_bad_anywhere(True)  # others may be waiting for this rank's verdict
        gathered = all_gather_object(None if error.what == OTHER_RANK else error.report)
        reports = list(dict.fromkeys(report for report in gathered if report is not None))
        if self.num_skipped >= self.max_skips:
            raise NonFiniteError(f"{'; '.join(reports)}, after max_skips={self.max_skips} steps were skipped")
        self.num_skipped += 1
        note = f"skipped step {self._iter + 1}, number {self.num_skipped} of at most {self.max_skips}"
        self.runner.logger.log(logging.WARNING, f"{note}: not finite: {'; '.join(reports)}")
        for name, buffer in self._buffers(copied=False).items():
            buffer.copy_(earlier_buffers[name])  # batch norms have seen the bad batch
        self.runner.optim_wrapper.drop_step(self._iter + 1)
        self.runner.call_hook("after_train_iter", batch_idx=self._iter, data_batch=data_batch, outputs={})
        self._iter += 1

    def _buffers(self, copied: bool = True) -> dict[str, Tensor]:
        buffers = self.runner.unwrapped_model.named_buffers()
        return {name: buffer.clone() if copied else buffer for name, buffer in buffers}

    def _position_data(self) -> None:
        """Let the sampler, or the stream, continue at the next draw."""
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
        """Copy the running statistics of rank 0, whose weights are saved, to all ranks."""
        if is_model_wrapper(self.runner.model):
            for buffer in self.runner.model.module.buffers():
                broadcast(buffer)


def _sample_ids(data_batch: Any) -> Sequence[str]:
    samples = data_batch.get("sample", ()) if isinstance(data_batch, dict) else ()
    return [sample.sample_id for sample in samples]
