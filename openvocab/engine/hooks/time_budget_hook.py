"""Train for a number of minutes: the steps that fit are computed from the time that the first ones took."""

import time
from dataclasses import asdict, replace
from typing import Any

from mmengine.dist import broadcast_object_list
from mmengine.hooks import Hook
from mmengine.runner import Runner

from openvocab.engine.run_length import STORED, RunLength, change_length, interval_of
from openvocab.registry import HOOKS

UNTIMED_STEPS = 2
"""The first steps of a process take longer: workers start, and memory is allocated."""
MIN_STEPS = 2
"""Steps that remain at least after a decision, so that the learning rate still falls to its end."""
VAL_FRACTION = 1 / 3
"""Largest part of the time that validations take; the last one takes place in any case."""
SPARE_VALIDATIONS = 2
"""So many more than the setting states are accepted before they are put further apart."""
LEAST_SECONDS = 1e-6
"""What a clock that has not moved counts as."""
TOLERANCE = 0.03
"""A length that differs by less from the previous one is not adopted."""


@HOOKS.register_module()
class TimeBudgetHook(Hook):
    """End a run with the setting `run_length` after its `minutes`, with its schedules at their end.

    After the first steps, their duration decides how many steps fit; schedules and validations are stretched to that
    number. Each validation corrects the number, since it shows its own duration, too; if the run becomes longer, the
    next validations are further apart, so that they and the saves after them stay few. A resumed run continues with the
    number and the time that its checkpoint holds. The time is that of steps and validations, without the start of the
    process. The run is never longer than without the bound.

    `build_runner` adds this hook.

    Args:
        length: the setting `run_length`, as a dict; `minutes` is set.
        first_steps: number of timed steps before the first decision; fewer if they take a tenth of the time.

    Raises:
        ValueError: `first_steps` is below 1.
    """

    priority = "LOW"

    def __init__(self, length: dict[str, Any], first_steps: int = 10) -> None:
        if first_steps < 1:
            raise ValueError(f"first_steps: expected at least 1, got {first_steps}")
        self.length = RunLength(**length)
        self.first_steps = first_steps
        self._started = self._last = self._val_started = 0.0
        self._steps, self._step_seconds, self._timed = 0, 0.0, 0
        self._val_seconds: float | None = None
        self._has_validated = False
        self._num_validations = 0

    def before_train(self, runner: Runner) -> None:
        """Start the clock."""
        self._started = self._last = time.monotonic()

    def before_val(self, runner: Runner) -> None:
        """Start the clock of a validation."""
        self._val_started = time.monotonic()

    def after_val(self, runner: Runner) -> None:
        """Note how long a validation took, and exclude it from the duration of the step."""
        self._val_seconds = time.monotonic() - self._val_started
        self._last += self._val_seconds
        self._has_validated = True
        self._num_validations += 1

    def after_step(self, runner: Runner) -> None:
        """Time a step, and decide if it is time (stage of our `TrainLoop`, after the validation)."""
        now = time.monotonic()
        self._steps += 1
        if self._steps > UNTIMED_STEPS:
            self._step_seconds += now - self._last
            self._timed += 1
        self._last = now
        between_steps = runner.iter % runner.optim_wrapper._accumulative_counts == 0
        if self._timed and between_steps and runner.iter < runner.max_iters and self._is_time(runner):
            self._decide(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Store the length of the run and the time so far."""
        checkpoint[STORED] = asdict(replace(runner.length, seconds=self._seconds(runner)))

    def _seconds(self, runner: Runner) -> float:
        return runner.length.seconds + time.monotonic() - self._started

    def _is_time(self, runner: Runner) -> bool:
        if runner.length.is_decided:
            is_due, self._has_validated = self._has_validated, False
            return is_due
        is_due = self._timed >= self.first_steps or self._seconds(runner) > self._budget / 10
        return self._of_main_rank(is_due)

    @property
    def _budget(self) -> float:
        assert self.length.minutes is not None
        return 60 * self.length.minutes

    @property
    def _seconds_per_step(self) -> float:
        return max(self._step_seconds / self._timed, LEAST_SECONDS)

    def _decide(self, runner: Runner) -> None:
        """Adopt the number of steps that fits into the time, as the main rank measures it."""
        before = runner.length
        iters, interval = self._of_main_rank(self._fitting(runner))
        if abs(iters - before.iters) <= TOLERANCE * before.iters:
            runner.length = replace(before, is_decided=True)
            return
        change_length(runner, replace(before, iters=iters, val_interval=interval, is_decided=True))
        runner.logger.info(
            f"{self._seconds_per_step:.2f} s per step: {iters} steps instead of {before.iters}, {self._reason(runner)}"
        )

    def _reason(self, runner: Runner) -> str:
        """State why the run ends after its steps: those that remain at least may take longer than the time left."""
        steps = self._seconds_per_step * (runner.max_iters - runner.iter)
        fits = self._seconds(runner) + steps + self._validation_seconds(runner, self._seconds_per_step) <= self._budget
        bound = f"{self.length.minutes:g} min"
        return f"which fit into {bound}" if fits else f"the fewest possible, though they take longer than {bound}"

    def _of_main_rank(self, value: Any) -> Any:
        """Return the value that the main rank has: the clocks of ranks differ, and all of them decide the same."""
        values = [value]
        broadcast_object_list(values)
        return values[0]

    def _fitting(self, runner: Runner) -> tuple[int, int]:
        """Return the number of steps that fit into the time, and the steps between validations.

        The steps done are included; they are not more than planned. Later decisions only make validations rarer.
        """
        step, multiple = self._seconds_per_step, runner.optim_wrapper._accumulative_counts
        left, validations = self._budget - self._seconds(runner), self._validations_left(runner)
        steps = (left - validations * self._validation_seconds(runner, step)) / step
        fitting, least = int(steps) // multiple * multiple, MIN_STEPS * multiple
        if runner.length.is_decided:
            # never beyond the end so far: it would move on with every correction, and the run would not end
            least = min(least, runner.length.iters - runner.iter)
        iters = min(runner.iter + max(least, fitting), runner.length.longest)
        if runner.length.is_decided:
            return iters, self._interval_of_rest(runner, iters, multiple)
        return iters, interval_of(replace(self.length, validations=max(1, validations)), iters, multiple)

    def _interval_of_rest(self, runner: Runner, iters: int, multiple: int) -> int:
        """Return the interval of validations from here to the end of a run of `iters`; at least the present one.

        The run may have had validations before it was resumed, at least one per present interval.
        """
        interval, left = runner.length.val_interval, iters - runner.iter
        done = max(self._num_validations, runner.iter // interval)
        if done + left / interval <= self.length.validations + SPARE_VALIDATIONS:
            return interval
        rest = replace(self.length, validations=max(1, self.length.validations - done))
        return max(interval, interval_of(rest, left, multiple))

    def _validations_left(self, runner: Runner) -> int:
        """Return the number of validations that are still to come."""
        if runner.val_loop is None:
            return 0
        if not runner.length.is_decided:
            seconds = self._validation_seconds(runner, self._seconds_per_step)
            left = VAL_FRACTION * (self._budget - self._seconds(runner))
            return max(1, min(self.length.validations, int(left / max(seconds, LEAST_SECONDS))))
        return max(1, -(-(runner.max_iters - runner.iter) // runner.length.val_interval))

    def _validation_seconds(self, runner: Runner, step: float) -> float:
        """Return the duration of a validation; before the first one, as if an image took as long as in training."""
        if self._val_seconds is not None or runner.val_loop is None:
            return self._val_seconds or 0.0
        return step * len(runner.val_dataloader.dataset) / runner.train_dataloader.batch_size
