"""Random draws of datasets as a function of a seed and a counter, in whichever process they are made."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.random.mtrand import get_bit_generator, set_bit_generator

_DRAW_BITS = np.random.MT19937(0)


class DrawIndex(int):
    """An index into a dataset that carries the seed of its augmentation."""

    seed: int

    def __new__(cls, index: int, seed: int) -> "DrawIndex":
        """Create the index `index` with `seed`."""
        draw = super().__new__(cls, index)
        draw.seed = seed
        return draw

    def __getnewargs__(self) -> tuple[int, int]:  # type: ignore[override]  # an int's is its value alone
        """Return the arguments of `__new__`, so that the index can be sent to worker processes."""
        return int(self), self.seed


@contextmanager
def seeded_draw(index: int) -> Iterator[None]:
    """Seed Python, NumPy and torch (CPU) for one item, and restore their states afterwards.

    Datasets load each item within it. A plain `int`, as in evaluation, changes nothing.
    """
    if not isinstance(index, DrawIndex):
        yield
        return
    states = random.getstate(), get_bit_generator(), torch.get_rng_state()
    set_bit_generator(_DRAW_BITS)  # swapped, not copied: reading NumPy's state takes as long as loading a small item
    random.seed(index.seed)
    np.random.seed(index.seed % 2**32)
    torch.default_generator.manual_seed(index.seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        set_bit_generator(states[1])
        torch.set_rng_state(states[2])


def mix_seed(*parts: int | str) -> int:
    """Hash the parts to 63 bits, so that neighboring counters give unrelated seeds."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
