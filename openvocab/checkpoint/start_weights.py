"""Control whether parts read their pretrained weights, which a checkpoint may replace anyway."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_IS_LOADED = ContextVar("start_weights_are_loaded", default=True)


@contextmanager
def start_weights(load: bool) -> Iterator[None]:
    """Build parts in the block with their pretrained weights, or, if a checkpoint follows, without.

    Args:
        load: if False, the config's `pretrained` needs neither its files nor a network.
    """
    token = _IS_LOADED.set(load)
    try:
        yield
    finally:
        _IS_LOADED.reset(token)


def reads_start_weights() -> bool:
    """Return whether a part that is being built reads its pretrained weights."""
    return _IS_LOADED.get()
