"""The loops of validation and test: mmengine's, which a signal can leave and whose loader failures have a name."""

from mmengine.dist import all_gather_object
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner, TestLoop, ValLoop
from mmengine.runner.loops import _parse_losses

from openvocab.engine.loader import batches_of
from openvocab.engine.stopping import Stopped
from openvocab.registry import LOOPS


@LOOPS.register_module(name="ValLoop")
class StoppableValLoop(ValLoop):
    """Validate; raise `Stopped` within, on all ranks, when the run was asked to stop."""

    def run(self) -> dict[str, float]:
        """Validate and return the metrics.

        Raises:
            Stopped: a signal came; call `leave_validation`.
            LoaderFailed: a loader worker hangs or was killed.
        """
        self.runner.call_hook("before_val")
        self.runner.call_hook("before_val_epoch")
        self.runner.model.eval()
        self.val_loss.clear()
        stop = self.runner.stop_request
        # ranks ask each other whether to stop: all as often as the one that has most batches, or none
        lengths, leaves = zip(*all_gather_object((len(self.dataloader), can_leave_validation(self.runner))))
        can_leave = all(leaves)
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
    """Test; a failing loader worker is reported by name."""

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
    """Return whether it is known how to undo what hooks do before a validation: not for those of a user."""
    stages = ("before_val", "before_val_epoch")
    foreign = [hook for hook in runner.hooks if type(hook).__module__.split(".")[0] not in ("mmengine", "openvocab")]
    return not any(getattr(type(hook), stage) is not getattr(Hook, stage) for hook in foreign for stage in stages)


def leave_validation(runner: Runner) -> None:
    """Undo what hooks did before a validation that does not end."""
    for hook in runner.hooks:
        if isinstance(hook, EMAHook):  # it has exchanged the weights for their averages
            hook.after_val_epoch(runner)
