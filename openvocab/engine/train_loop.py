"""The training loop: mmengine's, made resumable to the bit."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import all_gather_object, broadcast
from mmengine.model import is_model_wrapper
from mmengine.runner import IterBasedTrainLoop
from torch.utils.data import DataLoader

from openvocab.engine.finite_guard import NonFiniteError
from openvocab.engine.random_state import restore_random_state
from openvocab.registry import LOOPS


@LOOPS.register_module()
class TrainLoop(IterBasedTrainLoop):
    """Train for `max_iters` batches, validating every `val_interval` of them.

    It differs from mmengine's loop in three things. A resumed run starts its sampler at the next draw instead of
    loading and dropping all earlier batches; a data set without sampler (a stream, such as `WebCaptionDataset`) is told
    where each of its loader workers stood, by the positions that came with the batches. Hooks have one more stage,
    `after_step`, behind the validation that may follow a batch: what is saved there needs nothing repeated. A value
    that is not finite is reported with its samples.
    """

    draws: int = 0
    """Samples that all ranks together have drawn so far."""
    _random_states: list[dict] | None = None
    _stream_progress: dict[int, dict] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return where the data stands; all ranks must call it."""
        stream = self._stream
        if stream is None:
            return {"draws": self.draws}
        progress = [item for of_rank in all_gather_object(stream.progress()) for item in of_rank.items()]
        return {"draws": self.draws, "stream": dict(progress)}

    def resume_at(self, state: dict[str, Any], random_states: list[dict]) -> None:
        """Continue from a checkpoint: `state` of this class, and one random state a rank."""
        self.draws = state["draws"]
        self._stream_progress = state.get("stream")
        self._random_states = random_states

    def run(self) -> torch.nn.Module:
        """Train to the end and return the model."""
        self.runner.call_hook("before_train")
        self.runner.call_hook("before_train_epoch")
        batches = iter(self._positioned_dataloader())
        if self._random_states is not None:
            restore_random_state(self._random_states)
        while self._iter < self._max_iters and not self.stop_training:
            self.runner.model.train()
            batch = next(batches)
            self.run_iter(batch)
            if self._stream is not None:
                self._stream.note_consumed(batch["position"])
            self.draws += self.dataloader.batch_size * self.runner.world_size
            self._decide_current_val_interval()
            if self._validation_is_due():
                self._share_buffers()
                self.runner.val_loop.run()
            self.runner.call_hook("after_step")
        self.runner.call_hook("after_train_epoch")
        self.runner.call_hook("after_train")
        return self.runner.model

    def run_iter(self, data_batch: dict[str, Any]) -> None:
        """Train on one batch.

        Raises:
            NonFiniteError: with the step and the samples of the batch.
        """
        try:
            super().run_iter(data_batch)
        except NonFiniteError as error:
            raise error.located(self._iter + 1, _sample_ids(data_batch)) from None

    def _positioned_dataloader(self) -> DataLoader:
        """Return the loader, its sampler set to the next draw."""
        if self._stream is not None:
            # mmengine starts loader workers when it builds the loop: they do not know yet where to begin
            self.dataloader_iterator = self.dataloader._iterator = None
            self._stream.start_at(self._stream_progress or {}, seed=self.runner.seed)
            return self.dataloader
        sampler = self.dataloader.sampler
        if hasattr(sampler, "start_at"):
            sampler.start_at(self.draws)
        elif self._iter > 0:
            self.runner.logger.warning(
                f"{type(sampler).__name__} cannot be resumed: the data starts from its beginning. "
                "Use ResumableSampler in train_dataloader"
            )
        return self.dataloader

    @property
    def _stream(self) -> Any:
        """The data set, if it is a stream that can be resumed."""
        dataset = self.dataloader.dataset
        return dataset if hasattr(dataset, "note_consumed") else None

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
