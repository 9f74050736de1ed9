"""Weights into a module: all of them, or none and a list of what differs."""

from collections.abc import Mapping

from torch import Tensor, nn


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], problem: str) -> None:
    """Copy `state` into `module`; names and shapes must match exactly.

    Raises:
        ValueError: they do not; the message starts with `problem` and lists the first differences.
    """
    expected = module.state_dict()
    missing = [key for key in expected if key not in state]
    unexpected = [key for key in state if key not in expected]
    shapes = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(value.shape)}"
        for key, value in expected.items()
        if key in state and state[key].shape != value.shape and not _same_scalar(state[key], value)
    ]
    rows = [("missing", missing), ("unexpected", unexpected), ("other shape", shapes)]
    parts = [
        f"{len(found)} {name}: {', '.join(found[:3])}{', ...' * (len(found) > 3)}" for name, found in rows if found
    ]
    if parts:
        raise ValueError(f"{problem}: {'; '.join(parts)}")
    module.load_state_dict({key: state[key].reshape(value.shape) for key, value in expected.items()})


def _same_scalar(found: Tensor, expected: Tensor) -> bool:
    """Tell whether both hold one number: `logit_scale` is stored as () or as (1,)."""
    return found.numel() == expected.numel() == 1
