"""The optimizer step: mixed precision on any device, gradient accumulation, clipping, and a guard against NaN."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from mmengine.dist import all_reduce, broadcast_object_list, is_main_process
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import Tensor, nn
from torch.optim import Optimizer

from openvocab.argument_checks import check_choice
from openvocab.finite_guard import NonFiniteError, check_gradients, check_losses
from openvocab.process.bfloat16_probe import bfloat16_gain, dtype_name
from openvocab.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS

logger = logging.getLogger(__name__)
OTHER_RANK = "the loss of another rank"


@runtime_checkable
class StatesComputeDtype(Protocol):
    """An optimizer wrapper that states in which type the forward pass computes; checkpoints store it."""

    @property
    def compute_dtype(self) -> str | None:
        """The name of the type, such as "bfloat16"; None while it is undecided."""


@OPTIM_WRAPPERS.register_module()
class SafeOptimWrapper(OptimWrapper):
    """mmengine's wrapper, which stops before a step whose loss or gradient is not finite.

    Args:
        optimizer: torch's optimizer.
        accumulative_counts: number of batches whose gradients are added up for one step.
        clip_grad: `dict(max_norm=...)`, applied to the gradient of the step.
        amp: `"bf16"` runs the forward pass under bfloat16 autocast (on a CPU, too; needs no loss scaling), None in
            float32. `"auto"` decides when training starts: bf16 if a probe shows it to be faster on the model's device;
            a resumed run continues as it began, and all ranks follow rank 0.

    Attributes:
        shares_verdict: whether ranks tell each other about a bad loss before they continue; set by a loop that skips
            bad steps.

    Raises:
        ValueError: `amp` is another value.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        accumulative_counts: int = 1,
        clip_grad: dict | None = None,
        amp: Literal["auto", "bf16"] | None = None,
    ) -> None:
        check_choice("amp", amp, ("auto", "bf16", None))
        clip_grad = None if clip_grad is None else dict(clip_grad)  # mmengine removes keys from it
        super().__init__(optimizer, accumulative_counts=accumulative_counts, clip_grad=clip_grad)
        self.amp = amp
        self.shares_verdict = False
        self._is_verdict_shared = False
        self._skips_step = False
        self._dtype_at_start: str | None = None

    @property
    def compute_dtype(self) -> str | None:
        """What the forward pass computes in, "bfloat16" or "float32"; None while `auto` of a new run is undecided."""
        return self._dtype_at_start if self.amp == "auto" else {"bf16": "bfloat16", None: "float32"}[self.amp]

    def keep_dtype(self, begun_in: str) -> None:
        """Let a resumed run continue in the `compute_dtype` that it began in, unless `amp` sets another one.

        Raises:
            ValueError: `begun_in` is neither "bfloat16" nor "float32".
        """
        if begun_in not in ("bfloat16", "float32"):
            raise ValueError(f"the run to resume: expected to have been in bfloat16 or float32, got {begun_in!r}")
        self._dtype_at_start = begun_in
        if self.compute_dtype not in (None, begun_in):
            change = f"this run began in {begun_in} and continues in {self.compute_dtype}, as set"
            logger.warning(f"{change}: not equal to an uninterrupted run")

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Return the context of the forward pass: autocast, and no gradient exchange between accumulated batches."""
        self._is_verdict_shared = False
        device = next(model.parameters()).device
        if self.amp == "auto":
            self._decide_amp(device)
        with super().optim_context(model), torch.autocast(device.type, torch.bfloat16, enabled=self.amp is not None):
            yield

    def _decide_amp(self, device: torch.device) -> None:
        """Replace `auto` by the choice of rank 0, which logs the reason."""
        choice: list[str | None] = [None]
        if is_main_process():
            gain = bfloat16_gain(device)
            faster = dtype_name(gain.faster_dtype)
            choice = [self._dtype_at_start or faster]
            reason = f"{gain} on {device.type}"
            if choice[0] != faster:
                reason = f"as this run began; this machine would choose {faster}: {reason}"
            logger.info(f"training computes in {choice[0]} ({reason})")
        broadcast_object_list(choice)
        self.amp = "bf16" if choice[0] == "bfloat16" else None

    def update_params(self, loss: Tensor, step_kwargs: dict | None = None, zero_kwargs: dict | None = None) -> None:
        """Run the backward pass of `loss` (), and step if enough batches are accumulated.

        Raises:
            NonFiniteError: the loss or the gradient is not finite; the weights are unchanged.
        """
        check_losses({"loss": loss})
        if self.is_bad_anywhere(False):
            raise NonFiniteError(OTHER_RANK)
        super().update_params(loss, step_kwargs, zero_kwargs)

    def step(self, **kwargs: Any) -> None:
        """Clip the gradient and step.

        Raises:
            NonFiniteError: a gradient is not finite; the weights are unchanged.
        """
        if self._skips_step:
            self._skips_step = False
            return
        # Before clipping: the norm of a gradient with an infinity would scale all others to 0 or NaN.
        check_gradients(parameter for group in self.optimizer.param_groups for parameter in group["params"])
        super().step(**kwargs)

    def is_bad_anywhere(self, is_bad: bool) -> bool:
        """Return whether the loss of this batch is bad on any rank, before one of them waits for the others' gradients.

        Ranks tell each other once per batch, and only if `shares_verdict`: if a bad loss ends the run anyway, no rank
        waits long.
        """
        if not self.shares_verdict or self._is_verdict_shared:
            return is_bad
        self._is_verdict_shared = True
        # The maximum is 1 if any rank has a bad loss, so that all ranks skip or stop together.
        verdict = torch.tensor(int(is_bad))
        all_reduce(verdict, op="max")
        return bool(verdict)

    def drop_step(self, count: int) -> None:
        """Skip the step that the current batch belongs to, with the gradients of all its batches.

        Args:
            count: number of batches so far, including this one.
        """
        self._inner_count = count
        self._skips_step = not self.should_update()
        self.zero_grad()


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class GroupedOptimConstructor(DefaultOptimWrapperConstructor):
    """Learning rate and weight decay by part of the model, with one group for all parameters of equal settings.

    `paramwise_cfg` takes `custom_keys`, `norm_decay_mult`, `bias_decay_mult` and `flat_decay_mult` (for the other
    one-dimensional parameters). A custom key is a substring of parameter names, the longest match wins, with `lr_mult`
    and `decay_mult`. `factors` have the same form, but those of all matching keys are multiplied with what the others
    give:

        paramwise_cfg=dict(norm_decay_mult=0.0, custom_keys={"backbone": dict(lr_mult=0.1)})
        paramwise_cfg=dict(factors={"bias": dict(lr_mult=2.0, decay_mult=0.0)})  # of every part, at its own rate

    It differs from mmengine's constructor in three respects: norms and biases that match a custom key without
    `decay_mult` keep their own decay; frozen parameters are excluded; and it builds few groups instead of one per
    parameter, so that torch updates many tensors in one call and the log stays short.

    Raises:
        ValueError: `paramwise_cfg`, or one of its `factors`, has another key.
    """

    def _validate_cfg(self) -> None:
        known = ("custom_keys", "factors", "norm_decay_mult", "bias_decay_mult", "flat_decay_mult")
        _check_keys("paramwise_cfg", self.paramwise_cfg, known)
        for key, factors in self.paramwise_cfg.get("factors", {}).items():
            _check_keys(f"paramwise_cfg.factors[{key!r}]", factors, ("lr_mult", "decay_mult"))
        # without this key, mmengine's constructor includes frozen parameters
        self.paramwise_cfg.setdefault("custom_keys", {})

    def add_params(
        self, params: list[dict], module: nn.Module, prefix: str = "", is_dcn_module: int | float | None = None
    ) -> None:
        """Append the groups of the model `module` to `params`, and log them."""
        norms = {id(p) for part in module.modules() if _is_norm(part) for p in part.parameters(recurse=False)}
        groups: dict[tuple[float, float], list[Tensor]] = {}
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                multipliers = self._multipliers(name, id(parameter) in norms, parameter.ndim == 1)
                groups.setdefault(multipliers, []).append(parameter)
        defaults = self.optimizer_cfg
        for (lr_mult, decay_mult), parameters in groups.items():
            group = {"params": parameters, "lr": defaults["lr"] * lr_mult}
            if "weight_decay" in defaults:
                group["weight_decay"] = defaults["weight_decay"] * decay_mult
            params.append(group)
            size = sum(parameter.numel() for parameter in parameters)
            settings = ", ".join(f"{key} {value:g}" for key, value in group.items() if key != "params")
            logger.debug(f"optimizer: {len(parameters)} tensors, {size / 1e6:.3f} M, {settings}")

    def _multipliers(self, name: str, is_norm: bool, is_flat: bool) -> tuple[float, float]:
        """Return the factors of learning rate and weight decay of one parameter."""
        keys = self.paramwise_cfg.get("custom_keys", {})
        matches = [key for key in keys if key in name]
        custom = keys[max(matches, key=len)] if matches else {}
        decay = 1.0
        if is_norm:
            decay = self.paramwise_cfg.get("norm_decay_mult", 1.0)
        elif name.endswith("bias"):
            decay = self.paramwise_cfg.get("bias_decay_mult", 1.0)
        elif is_flat:
            decay = self.paramwise_cfg.get("flat_decay_mult", 1.0)
        rate, decay = custom.get("lr_mult", 1.0), custom.get("decay_mult", decay)
        for key, factors in self.paramwise_cfg.get("factors", {}).items():
            if key in name:
                rate, decay = rate * factors.get("lr_mult", 1.0), decay * factors.get("decay_mult", 1.0)
        return rate, decay


def _check_keys(where: str, settings: Mapping[str, Any], known: Sequence[str]) -> None:
    unknown = set(settings) - set(known)
    if unknown:
        raise ValueError(f"{where}: unknown {sorted(unknown)}; expected {', '.join(known)}")


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._NormBase, nn.RMSNorm))
