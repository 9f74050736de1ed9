"""The bound on the learned temperature."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from openvocab.registry import HOOKS


@HOOKS.register_module()
class ClampLogitScale(Hook):
    """Clamp the text encoder's logit scale to [1, `maximum`] after each optimizer step.

    The parameter is clamped, not its value in the forward pass: there, a scale above the bound would get no gradient
    and stay above it.

    Args:
        maximum: upper bound of the exponentiated scale; CLIP's is 100.

    Raises:
        ValueError: `maximum` is below 1; or, when training starts, the text encoder has no learned scale.
    """

    def __init__(self, maximum: float = 100.0) -> None:
        if maximum < 1:
            raise ValueError(f"maximum: expected at least 1, got {maximum}")
        self.maximum = maximum

    def before_train(self, runner: Runner) -> None:
        """Reject a text encoder without a learned logit scale."""
        encoder = _text_encoder(runner)
        if not encoder.learns_logit_scale:
            raise ValueError(f"ClampLogitScale: {type(encoder).__name__} has no learned logit scale; remove the hook")

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Clamp the scale."""
        _text_encoder(runner).clamp_logit_scale(self.maximum)


def _text_encoder(runner: Runner) -> Any:
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    return model.text_encoder
