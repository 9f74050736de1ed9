"""Random numbers that are the same on every machine and in every numpy version."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


class RandomStream:
    """Uniform draws from the raw output of PCG64.

    numpy guarantees a stable stream for its bit generators only, not for the distributions of `Generator`, and normal
    draws depend on the C library's logarithm. So the few distributions needed are built here from integers.
    """

    def __init__(self, *key: int) -> None:
        self._bits = np.random.PCG64(list(key))
        self._drawn: list[int] = []

    def fraction(self) -> float:
        """Draw from [0, 1)."""
        if not self._drawn:
            self._drawn = self._bits.random_raw(128).tolist()
        return (self._drawn.pop() >> 11) * 2.0**-53

    def uniform(self, low: float, high: float) -> float:
        """Draw from [low, high)."""
        return low + (high - low) * self.fraction()

    def integer(self, low: int, high: int) -> int:
        """Draw an integer from low to high, both included."""
        return low + int(self.fraction() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """Return True with this probability."""
        return self.fraction() < probability

    def choice(self, items: Sequence[T]) -> T:
        """Draw one item."""
        return items[int(self.fraction() * len(items))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """Return the items in random order (Fisher-Yates)."""
        order = list(items)
        for last in range(len(order) - 1, 0, -1):
            other = self.integer(0, last)
            order[last], order[other] = order[other], order[last]
        return order

    def bytes(self, *shape: int) -> np.ndarray:
        """Draw an array of uniform bytes, uint8 of this shape."""
        count = int(np.prod(shape))
        raw = np.atleast_1d(self._bits.random_raw(-(-count // 8))).astype("<u8")  # the same byte order on every machine
        return raw.view(np.uint8)[:count].reshape(shape)
