"""A sampler in which each draw and its randomness depend on the seed and a counter, never on a process.

An interrupted run therefore continues with the batches that it would have seen, with any number of workers, and without
loading anything twice.
"""

from collections.abc import Iterator, Sized

import torch
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from openvocab.registry import DATA_SAMPLERS
from openvocab.seeding import DrawIndex, mix_seed


@DATA_SAMPLERS.register_module()
class ResumableSampler(Sampler):
    """Draw samples endlessly, in a new random order in each epoch.

    Draw number d of the whole job is item `d % size` of the permutation number `d // size`; rank r of W takes the draws
    r, r + W, r + 2W, ... Both the order and the seed of each draw depend only on `seed`.

    Args:
        dataset: anything with a length.
        shuffle: False keeps the dataset's own order.
        seed: the same on all ranks; by default the ranks agree on a random one.

    Raises:
        ValueError: the dataset is empty.
    """

    def __init__(self, dataset: Sized, shuffle: bool = True, seed: int | None = None) -> None:
        if len(dataset) == 0:
            raise ValueError(f"the dataset {type(dataset).__name__} is empty: nothing to draw from")
        self.rank, self.world_size = get_dist_info()
        self.size = len(dataset)
        self.shuffle = shuffle
        self.seed = sync_random_seed() if seed is None else seed
        self.start = 0

    def start_at(self, draw: int) -> None:
        """Let the next iteration begin at draw number `draw` of the whole job."""
        self.start = draw

    def __iter__(self) -> Iterator[DrawIndex]:
        """Yield this rank's draws, forever."""
        draw = self.start + self.rank
        epoch = -1
        order: list[int] = []
        while True:
            if draw // self.size != epoch:
                epoch = draw // self.size
                order = self._order(epoch)
            yield DrawIndex(order[draw % self.size], mix_seed(self.seed, "draw", draw))
            draw += self.world_size

    def __len__(self) -> int:
        """Return the number of draws of one rank in one epoch."""
        return -(-self.size // self.world_size)

    def _order(self, epoch: int) -> list[int]:
        """Return the items of an epoch in their order."""
        if not self.shuffle:
            return list(range(self.size))
        generator = torch.Generator().manual_seed(mix_seed(self.seed, "order", epoch))
        return torch.randperm(self.size, generator=generator).tolist()
