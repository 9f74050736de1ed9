"""The loops of validation and test: mmengine's, but a signal can leave a validation, and loader failures are named."""

from mmengine.dist import all_gather_object
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner, TestLoop, ValLoop
from mmengine.runner.loops import _parse_losses

from openvocab.engine.loader import batches_of
from openvocab.engine.stopping import Stopped
from openvocab.registry import LOOPS


@LOOPS.register_module(name="ValLoop")
class StoppableValLoop(ValLoop):
    """Validate; raise `Stopped` on all ranks if the run is asked to stop meanwhile."""

    def run(self) -> dict[str, float]:
        """Validate and return the metrics.

        Raises:
            Stopped: a signal came; the caller has to call `leave_validation`.
            LoaderFailed: a loader worker hangs or was killed.
        """
        self.runner.call_hook("before_val")
        self.runner.call_hook("before_val_epoch")
        self.runner.model.eval()
        self.val_loss.clear()
        stop = self.runner.stop_request
        # ranks agree on a stop before each batch, so that all ask as often as the one with most batches, or none does
        lengths, can_ranks_leave = zip(*all_gather_object((len(self.dataloader), can_leave_validation(self.runner))))
        can_leave = all(can_ranks_leave)
        with batches_of(self.dataloader, "val_dataloader", is_nested=True) as batches:
            for index in range(max(lengths)):
                if can_leave and stop.is_agreed():
                    raise Stopped(stop.number)
                with stop.released(can_leave):
                    batch = next(batches, None)
                    if batch is not None:
                        self.run_iter(index, batch)
        with stop.released(can_leave):
            metrics = self.evaluator.evaluate(len(self.dataloader.dataset))
        if self.val_loss:
            metrics.update(_parse_losses(self.val_loss, "val"))
        self.runner.call_hook("after_val_epoch", metrics=metrics)
        self.runner.call_hook("after_val")
        return metrics


@LOOPS.register_module(name="TestLoop")
class NamedFailureTestLoop(TestLoop):
    """Test; the failure of a loader worker is reported with the worker and its samples."""

    def run(self) -> dict[str, float]:
        """Test and return the metrics.

        Raises:
            LoaderFailed: a loader worker hangs or was killed.
        """
        self.runner.call_hook("before_test")
        self.runner.call_hook("before_test_epoch")
        self.runner.model.eval()
        self.test_loss.clear()
        with batches_of(self.dataloader, "test_dataloader") as batches:
            for index, batch in enumerate(batches):
                self.run_iter(index, batch)
        metrics = self.evaluator.evaluate(len(self.dataloader.dataset))
        if self.test_loss:
            metrics.update(_parse_losses(self.test_loss, "test"))
        self.runner.call_hook("after_test_epoch", metrics=metrics)
        self.runner.call_hook("after_test")
        return metrics


def can_leave_validation(runner: Runner) -> bool:
    """Return whether a validation may be left: not if a user's hook acts before it, which nobody could undo."""
    stages = ("before_val", "before_val_epoch")
    user_hooks = [hook for hook in runner.hooks if type(hook).__module__.split(".")[0] not in ("mmengine", "openvocab")]
    return not any(getattr(type(hook), stage) is not getattr(Hook, stage) for hook in user_hooks for stage in stages)


def leave_validation(runner: Runner) -> None:
    """Undo what hooks did before a validation that is left before its end."""
    for hook in runner.hooks:
        if isinstance(hook, EMAHook):  # it has swapped the weights with their averages
            hook.after_val_epoch(runner)
