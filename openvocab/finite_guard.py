"""Stop before a NaN or an infinity reaches the weights."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from openvocab.failures import RunFailed


class NonFiniteError(RunFailed, RuntimeError):
    """A loss, a gradient or a weight is NaN or infinite; the step has not changed the weights.

    Args:
        what: description of the values that are not finite.
        step: 1-based iteration.
        sample_ids: the samples of the batch, if known.
    """

    def __init__(self, what: str, step: int | None = None, sample_ids: Sequence[str] = ()) -> None:
        self.what, self.step, self.sample_ids = what, step, tuple(sample_ids)
        where = "" if step is None else f" at step {step}"
        batch = f"; samples: {', '.join(sample_ids)}" if sample_ids else ""
        self.report = f"{what}{batch}"
        """The message without the step."""
        super().__init__(f"not finite{where}: {self.report}. The weights were not changed by this step")

    def located(self, step: int, sample_ids: Sequence[str]) -> "NonFiniteError":
        """Return the same error with the step and the samples of its batch."""
        return NonFiniteError(self.what, step, sample_ids)


def check_losses(losses: Mapping[str, Tensor | list[Tensor] | tuple[Tensor, ...]]) -> None:
    """Check the losses of a model, in one transfer from the device.

    Args:
        losses: tensors of any shape, each alone or several in a list.

    Raises:
        NonFiniteError: a loss is not finite; the message names all such losses.
    """
    names, values = [], []
    for name, value in losses.items():
        for part in value if isinstance(value, (list, tuple)) else [value]:
            names.append(name)
            # One number per loss, since the check needs a transfer; the sum is not finite if an element is not.
            values.append(part.detach().float().sum())
    if not values or torch.isfinite(torch.stack(values)).all():
        return
    # Only on failure are the values transferred one by one.
    bad = [f"{name} = {value.item()}" for name, value in zip(names, values) if not torch.isfinite(value)]
    raise NonFiniteError(", ".join(bad))


def check_gradients(parameters: Iterable[Tensor]) -> None:
    """Check every gradient, in one transfer from the device.

    Raises:
        NonFiniteError: a gradient is not finite; the message counts the parameters and lists their shapes.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return
    # the largest absolute value is NaN or infinite exactly if an element is; a sum of squares could overflow
    largest = torch.stack([torch.linalg.vector_norm(gradient.detach(), float("inf")).float() for gradient in gradients])
    finite = torch.isfinite(largest)
    if not finite.all():
        shapes = [str(tuple(gradients[i].shape)) for i in (~finite).nonzero().flatten().tolist()]
        listed = ", ".join(shapes[:3]) + (", ..." if len(shapes) > 3 else "")
        raise NonFiniteError(f"gradient of {len(shapes)} of {len(gradients)} parameters (shapes {listed})")


def check_weights(model: nn.Module) -> None:
    """Check weights before they are saved: finite parameters, and no NaN in buffers (attention masks hold infinities).

    Raises:
        NonFiniteError: a weight is not finite; the message names the first few.
    """
    bad = [name for name, value in model.named_parameters() if not torch.isfinite(value).all()]
    bad += [name for name, value in model.named_buffers() if torch.isnan(value).any()]
    if bad:
        raise NonFiniteError(f"weights {', '.join(bad[:3])}{', ...' if len(bad) > 3 else ''}")
