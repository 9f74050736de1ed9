"""Work in smaller pieces where memory does not suffice for all at once."""

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
"""How torch's allocator, the C++ library, CUDA's libraries and oneDNN say it, all as plain `RuntimeError`s."""


class NotEnoughMemory(MemoryError):
    """Nothing is left that could be done in smaller pieces; the message says what to change."""


class Halving:
    """Does a list of things piece by piece, and learns how many of them fit into memory at once.

    The first pieces are as large as `limit` allows. One that does not fit is cut in half and tried again, down to a
    single thing; what fits is kept for the calls that follow. A call that fails altogether teaches nothing.

    Args:
        things: what the pieces consist of, for the log.
        limit: things at once to start with; None for all.
    """

    def __init__(self, things: str, limit: int | None = None) -> None:
        self.things = things
        self.limit = self._first_limit = limit

    @property
    def has_learnt(self) -> bool:
        """Whether memory has made the pieces smaller."""
        return self.limit != self._first_limit

    def run(self, function: Callable[[int, int], Result], total: int) -> list[Result]:
        """Return function(0, n), function(n, 2 n), ... up to `total` things; function(0, 0) where there are none.

        Where memory gives out, `function` is called again for the first part of the same piece.

        Raises:
            MemoryError, RuntimeError: a single thing does not fit.
        """
        learnt, results, start = self.limit, [], 0
        while start < total or not results:
            stop = min(total, start + (self.limit or total))
            try:
                result = if_memory_suffices(partial(function, start, stop), last_try=stop - start <= 1)
            except BaseException:
                self.limit = learnt
                raise
            if result is None:
                self.limit = (stop - start) // 2
            else:
                results.append(result[0])
                start = stop
        return results

    def shrink_to(self, limit: int) -> None:
        """Learn from elsewhere that no more than `limit` things fit."""
        self.limit = limit if self.limit is None else min(limit, self.limit)


def if_memory_suffices(function: Callable[[], Result], last_try: bool = False) -> tuple[Result] | None:
    """Return (function(),), or None where memory gave out.

    What the function had made by then is free again: it hung on the error, which is gone.

    Args:
        last_try: let the error pass.
    """
    try:
        return (function(),)
    except (MemoryError, RuntimeError) as error:
        if last_try or not is_out_of_memory(error):
            raise
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()  # torch keeps it for tensors of the same size
    return None


@contextmanager
def advising(advice: str) -> Iterator[None]:
    """Turn a lack of memory within into one line that says what to change.

    Raises:
        NotEnoughMemory: memory gave out.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, NotEnoughMemory) or not is_out_of_memory(error):
            raise
        raise NotEnoughMemory(advice) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory could not be had: Python's, NumPy's, torch's on any device."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and _SIGNS.search(str(error)) is not None
