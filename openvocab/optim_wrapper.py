"""The optimizer step: mixed precision on any device, accumulation, clipping, and a guard against NaN."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from mmengine.logging import MMLogger
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import Tensor, nn
from torch.optim import Optimizer

from openvocab.finite_guard import check_gradients, check_losses
from openvocab.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class SafeOptimWrapper(OptimWrapper):
    """mmengine's wrapper that stops before a step whose loss or gradient is not finite.

    Args:
        optimizer: of torch.
        accumulative_counts: batches whose gradients make one step.
        clip_grad: `dict(max_norm=...)`, applied to the gradient of the step.
        amp: `"bf16"` runs the forward pass under bfloat16 autocast (CPU too; needs no loss scaling), None in float32.

    Raises:
        ValueError: another value for `amp`.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        accumulative_counts: int = 1,
        clip_grad: dict | None = None,
        amp: Literal["bf16"] | None = None,
    ) -> None:
        if amp not in (None, "bf16"):
            raise ValueError(f"amp: expected None or 'bf16', got {amp!r}")
        clip_grad = None if clip_grad is None else dict(clip_grad)  # mmengine takes keys out of it
        super().__init__(optimizer, accumulative_counts=accumulative_counts, clip_grad=clip_grad)
        self.amp = amp

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Run the forward pass of `model` in: autocast, and no gradient exchange between accumulated batches."""
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device, torch.bfloat16, enabled=self.amp is not None):
            yield

    def update_params(self, loss: Tensor, step_kwargs: dict | None = None, zero_kwargs: dict | None = None) -> None:
        """Go back from `loss`, and step where enough batches have come together.

        Raises:
            NonFiniteError: the loss or the gradient is not finite; the weights are unchanged.
        """
        check_losses({"loss": loss})
        super().update_params(loss, step_kwargs, zero_kwargs)

    def step(self, **kwargs) -> None:
        """Clip and step.

        Raises:
            NonFiniteError: a gradient is not finite; the weights are unchanged.
        """
        check_gradients(parameter for group in self.optimizer.param_groups for parameter in group["params"])
        super().step(**kwargs)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class GroupedOptimConstructor(DefaultOptimWrapperConstructor):
    """mmengine's constructor with `paramwise_cfg`, but one group for all parameters of equal settings.

    mmengine makes a group, and a line of log, of every parameter; torch then updates them one by one. Frozen parameters
    are left out.
    """

    def add_params(
        self, params: list[dict], module: nn.Module, prefix: str = "", is_dcn_module: int | float | None = None
    ) -> None:
        """Append the groups of `module` to `params`; merged and logged once for the whole model (empty prefix)."""
        if prefix:
            super().add_params(params, module, prefix, is_dcn_module)
            return
        logger = MMLogger.get_current_instance()
        level = logger.level
        logger.setLevel("WARNING")
        try:
            super().add_params(params, module, prefix, is_dcn_module)
        finally:
            logger.setLevel(level)
        params[:] = _merged(params)
        defaults = self.optimizer_cfg
        for group in params:
            rate, decay = (group.get(key, defaults.get(key)) for key in ("lr", "weight_decay"))
            size = sum(parameter.numel() for parameter in group["params"])
            logger.info(f"optimizer: {size / 1e6:.3f} M parameters at rate {rate:g}, weight decay {decay}")


def _merged(groups: list[dict]) -> list[dict]:
    """Join groups of equal settings, in the order of their first parameter."""
    merged: dict[tuple, dict] = {}
    for group in groups:
        trained = [parameter for parameter in group["params"] if parameter.requires_grad]
        settings = {key: value for key, value in group.items() if key != "params"}
        if trained:
            merged.setdefault(tuple(sorted(settings.items())), {**settings, "params": []})["params"] += trained
    return list(merged.values())
