"""Weights into a module: all of them, or none and a list of what differs."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], problem: str) -> None:
    """Copy `state` into `module`; names and shapes must match exactly, but for () and (1,).

    Raises:
        ValueError: they do not; see `check_same_weights`.
    """
    expected = module.state_dict()
    state = {key: _like_scalar(value, expected.get(key)) for key, value in state.items()}
    _check(expected, state, problem)
    module.load_state_dict(state)


def check_same_weights(expected: Mapping[str, Tensor], actual: Mapping[str, Tensor], source: str) -> None:
    """Check that names and shapes agree.

    Raises:
        ValueError: with a line each, counts and the first names, on what is missing, unexpected and of another shape.
    """
    _check(expected, actual, f"{source} does not fit the model")


def shortened(items: Sequence[str], shown: int = 3) -> str:
    """Return the first few of a list, as text."""
    return "; ".join(items[:shown]) + ("; ..." if len(items) > shown else "")


def _check(expected: Mapping[str, Tensor], actual: Mapping[str, Tensor], problem: str) -> None:
    actual = {name: value for name, value in actual.items() if isinstance(value, Tensor)}
    rows = {
        "missing": [name for name in expected if name not in actual],
        "unexpected": [name for name in actual if name not in expected],
        "of another shape": [
            f"{name}: model {tuple(value.shape)}, file {tuple(actual[name].shape)}"
            for name, value in expected.items()
            if name in actual and value.shape != actual[name].shape
        ],
    }
    lines = [f"{len(found)} {kind}: {shortened(found)}" for kind, found in rows.items() if found]
    if lines:
        raise ValueError("\n".join([f"{problem}, nothing was loaded:", *lines]))


def _like_scalar(found: Tensor, expected: Tensor | None) -> Tensor:
    """Return a single number in the shape that is expected: `logit_scale` is stored as () or as (1,)."""
    is_number = expected is not None and found.numel() == expected.numel() == 1
    return found.reshape(expected.shape) if is_number else found
