"""The last results made of texts, in memory."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import torch

Result = TypeVar("Result")


class RecentTexts(Generic[Result]):
    """Results that can be used again, by a key of all that they depend on. A copy of it starts empty.

    Args:
        limit: largest number of results; the one that was not used for longest makes room.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._results: OrderedDict[Hashable, Result] = OrderedDict()

    def __reduce__(self) -> tuple[type, tuple[int]]:
        """Leave the results out of copies, since they may refer to the encoder that made them."""
        return type(self), (self.limit,)

    def __len__(self) -> int:
        return len(self._results)

    def clear(self) -> None:
        """Forget all results."""
        self._results.clear()

    def find(self, key: Hashable, make: Callable[[], Result]) -> Result:
        """Return the result of a key, from memory or from `make`, without gradients."""
        if key not in self._results:
            with torch.inference_mode(False), torch.no_grad():  # what prediction makes may be used in training
                self._results[key] = make()
            while len(self._results) > self.limit:
                self._results.popitem(last=False)
        self._results.move_to_end(key)
        return self._results[key]
