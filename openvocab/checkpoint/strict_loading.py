"""Load all weights of a module, or load none and list the differences."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], problem: str) -> None:
    """Copy `state` into `module`; names and shapes must match exactly, except that () matches (1,).

    Args:
        module: changed in place.
        state: its state dict.
        problem: first line of the error.

    Raises:
        ValueError: names or shapes differ; see `check_same_weights`.
    """
    expected = module.state_dict()
    state = {key: _like_scalar(value, expected.get(key)) for key, value in state.items()}
    _check(expected, state, problem)
    module.load_state_dict(state)


def check_same_weights(expected: Mapping[str, Tensor], actual: Mapping[str, Tensor], source: str) -> None:
    """Check that the names and shapes of weights agree.

    Raises:
        ValueError: they differ; one line each, with count and first names, for missing weights, unexpected weights and
            weights whose shapes differ.
    """
    _check(expected, actual, f"{source} does not fit the model")


def shortened(items: Sequence[str], limit: int = 3) -> str:
    """Return the first items of a list as text."""
    return "; ".join(items[:limit]) + ("; ..." if len(items) > limit else "")


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
    lines = [f"{len(names)} {difference}: {shortened(names)}" for difference, names in rows.items() if names]
    if lines:
        raise ValueError("\n".join([f"{problem}, nothing was loaded:", *lines]))


def _like_scalar(value: Tensor, expected: Tensor | None) -> Tensor:
    """Return a single number in the expected shape, since `logit_scale` is stored as () or as (1,)."""
    if expected is not None and value.numel() == expected.numel() == 1:
        return value.reshape(expected.shape)
    return value
