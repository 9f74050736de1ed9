"""Cosine decay after a warm-up, as timm counts it."""

import math

from mmengine.optim import OptimWrapper, _ParamScheduler
from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from torch.optim import Optimizer

from openvocab.registry import PARAM_SCHEDULERS


@PARAM_SCHEDULERS.register_module()
class UnshiftedCosineLR(LRSchedulerMixin, _ParamScheduler):
    """Cosine decay whose half wave begins with the run, so that the learning rate drops slightly when the warm-up ends.

    At iteration t from `begin` to `end` the rate is eta_min + (base - eta_min) * (1 + cos(pi * t / end)) / 2, as in
    timm's `CosineLRScheduler` without `warmup_prefix` (GroupViT, DeiT). `CosineAnnealingLR` starts the wave at `begin`.

    Args:
        optimizer: the optimizer or its wrapper.
        begin: first iteration of the decay, after the warm-up.
        end: number of iterations of the run.
        eta_min: learning rate at the end.
        by_epoch: must be False; the schedule counts iterations.
        last_step, verbose: see mmengine's schedulers.

    Raises:
        ValueError: `by_epoch` is set, or `end` is not after `begin`.
    """

    def __init__(
        self,
        optimizer: Optimizer | OptimWrapper,
        begin: int,
        end: int,
        eta_min: float = 0.0,
        by_epoch: bool = False,
        last_step: int = -1,
        verbose: bool = False,
    ) -> None:
        if by_epoch or not 0 <= begin < end:
            raise ValueError(f"expected by_epoch=False and 0 <= begin < end, got {by_epoch}, {begin} and {end}")
        self.eta_min = eta_min
        super().__init__(optimizer, begin=begin, end=end, last_step=last_step, by_epoch=by_epoch, verbose=verbose)

    def _get_value(self) -> list[float]:
        factor = (1 + math.cos(math.pi * (self.begin + self.last_step) / self.end)) / 2
        return [self.eta_min + (base - self.eta_min) * factor for base in self.base_values]
