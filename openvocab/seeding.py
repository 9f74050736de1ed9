"""Randomness as a function of a seed and a counter, never of a process: what each draw of a dataset is made with."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

_DRAW_BITS = np.random.MT19937(0)


class DrawIndex(int):
    """An index into a dataset that carries the seed of its augmentation."""

    seed: int

    def __new__(cls, index: int, seed: int) -> "DrawIndex":
        """Make index `index` with `seed`."""
        draw = super().__new__(cls, index)
        draw.seed = seed
        return draw

    def __getnewargs__(self) -> tuple[int, int]:
        """Let the index travel to worker processes."""
        return int(self), self.seed


@contextmanager
def seeded_draw(index: int) -> Iterator[None]:
    """Seed Python, NumPy and torch (CPU) for one item, and put their states back afterwards.

    Datasets wrap the loading of an item in it. A plain `int` (evaluation) changes nothing.
    """
    if not isinstance(index, DrawIndex):
        yield
        return
    states = random.getstate(), np.random.get_bit_generator(), torch.get_rng_state()
    np.random.set_bit_generator(_DRAW_BITS)  # swapped, not copied: reading NumPy's state costs as much as a small item
    random.seed(index.seed)
    np.random.seed(index.seed % 2**32)
    torch.default_generator.manual_seed(index.seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_bit_generator(states[1])
        torch.set_rng_state(states[2])


def mix_seed(*parts: int | str) -> int:
    """Hash the parts to 63 bits, so that neighboring counters give unrelated seeds."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
