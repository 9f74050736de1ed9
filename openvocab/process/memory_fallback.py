"""Work in smaller chunks if memory does not suffice for all at once."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import torch

Result = TypeVar("Result")

_SIGNS = re.compile(
    r"out of memory|not enough memory|can(?:'t|not) allocate memory|unable to allocate|bad_alloc|alloc_failed"
    r"|could not create a memory",
    re.IGNORECASE,
)
"""The messages of torch's allocator, the C++ library, CUDA's libraries and oneDNN, all plain `RuntimeError`s."""


class NotEnoughMemory(MemoryError):
    """Memory does not suffice even for the smallest chunk; the message states what to change."""


class Halving:
    """Processes items chunk by chunk, and learns how many of them fit into memory at once.

    The first chunks are as large as `limit` allows. One that does not fit is halved and tried again, down to a single
    item; the size that fits is kept for the following calls. A call that fails does not change it.

    Args:
        things: what the chunks consist of, for the log.
        limit: items per chunk at the start; None for all.
    """

    def __init__(self, things: str, limit: int | None = None) -> None:
        self.things = things
        self.limit = self._first_limit = limit

    @property
    def has_learned(self) -> bool:
        """Whether lack of memory has reduced the chunks."""
        return self.limit != self._first_limit

    def run(self, function: Callable[[int, int], Result], total: int) -> list[Result]:
        """Return [function(0, n), function(n, 2 n), ...] up to `total` items; [function(0, 0)] if there are none.

        If memory does not suffice, `function` is called again for the first half of the same chunk.

        Raises:
            MemoryError, RuntimeError: a single item does not fit.
        """
        limit_before, start = self.limit, 0
        results: list[Result] = []
        while start < total or not results:
            stop = min(total, start + (self.limit or total))
            try:
                result = if_memory_suffices(partial(function, start, stop), last_try=stop - start <= 1)
            except BaseException:
                self.limit = limit_before
                raise
            if result is None:
                self.limit = (stop - start) // 2
            else:
                results.append(result[0])
                start = stop
        return results

    def shrink_to(self, limit: int) -> None:
        """Reduce the chunks to at most `limit` items, as another part has learned."""
        self.limit = limit if self.limit is None else min(limit, self.limit)


def if_memory_suffices(function: Callable[[], Result], last_try: bool = False) -> tuple[Result] | None:
    """Return (function(),), or None if memory did not suffice.

    The tensors of the failed call are free again, since the error that held them is gone.

    Args:
        function: called without arguments.
        last_try: raise the error instead of returning None.
    """
    try:
        return (function(),)
    except (MemoryError, RuntimeError) as error:
        if last_try or not is_out_of_memory(error):
            raise
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()  # torch keeps freed memory for tensors of the same size
    return None


@contextmanager
def advising(advice: str) -> Iterator[None]:
    """Replace an out-of-memory error of the block by one line that states what to change.

    Raises:
        NotEnoughMemory: memory did not suffice.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, NotEnoughMemory) or not is_out_of_memory(error):
            raise
        raise NotEnoughMemory(advice) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error of Python, NumPy or torch, on any device, means that memory did not suffice."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and _SIGNS.search(str(error)) is not None
