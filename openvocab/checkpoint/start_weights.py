"""Whether parts read the weights that they start from, which a checkpoint may replace anyway."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_READ = ContextVar("read", default=True)


@contextmanager
def start_weights(read: bool) -> Iterator[None]:
    """Build parts within, with the weights that they start from or, if a checkpoint follows, without.

    Without, neither the files nor the network of the config's `pretrained` are needed.
    """
    token = _READ.set(read)
    try:
        yield
    finally:
        _READ.reset(token)


def reads_start_weights() -> bool:
    """Say whether a part that is being built should read its start weights."""
    return _READ.get()
