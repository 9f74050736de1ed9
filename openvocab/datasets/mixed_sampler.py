"""A sampler that draws from several datasets by weights."""

import math
from collections.abc import Iterator, Sequence

import numpy as np

from openvocab.argument_checks import check_number, check_numbers
from openvocab.datasets.mixed import MixedDataset
from openvocab.datasets.sampler import ResumableSampler
from openvocab.registry import DATA_SAMPLERS
from openvocab.seeding import DrawIndex, mix_seed


@DATA_SAMPLERS.register_module()
class MixedSampler(ResumableSampler):
    """Draw endlessly from the parts of a `MixedDataset`, by weights.

    Draws are planned in blocks: of the draws of a block, each part gets its share, in random order. Within a part every
    item is drawn once before any is drawn again, in a new random order each time. So the number of draws of a part
    before any draw is known without going through them, and a run can be resumed at any draw.

    Args:
        dataset: a `MixedDataset` of P parts.
        weights: P positive numbers, in any unit: [1, 3] draws three times as often from the second part.
        block: number of draws per block; shares are rounded to whole draws.
        seed: the same on all ranks; by default the ranks agree on a random one.

    Raises:
        TypeError: the dataset is of another type.
        ValueError: a number of weights other than that of parts, one that is not positive or so small that it gets no
            draw of a block, or an empty part.
    """

    def __init__(
        self, dataset: MixedDataset, weights: Sequence[float], block: int = 1000, seed: int | None = None
    ) -> None:
        if not isinstance(dataset, MixedDataset):
            raise TypeError(f"MixedSampler: expected a MixedDataset, got {type(dataset).__name__}")
        super().__init__(dataset, seed=seed)
        check_number("block", block, 1, whole=True)
        self.sizes = dataset.part_sizes
        check_numbers("weights", weights, count=len(self.sizes))
        if min(weights) <= 0:
            raise ValueError(f"weights: expected positive numbers, got {list(weights)}; leave out a part of weight 0")
        if 0 in self.sizes:
            raise ValueError(f"MixedSampler: part {self.sizes.index(0)} of {dataset.name} is empty")
        self.shares = _whole_shares(weights, block)
        if 0 in self.shares:
            raise ValueError(
                f"weights: part {self.shares.index(0)} gets none of the {block} draws of a block; raise its weight, or "
                "block"
            )
        self._starts = np.cumsum([0, *self.sizes]).tolist()

    def __iter__(self) -> Iterator[DrawIndex]:
        """Yield this rank's draws, forever."""
        draw, number, block = self.start + self.rank, -1, sum(self.shares)
        parts, earlier = np.zeros(0, np.int64), np.zeros(0, np.int64)
        orders = [(-1, np.zeros(0, np.int64)) for _ in self.sizes]  # of each part the present epoch and its order
        while True:
            if draw // block != number:
                number = draw // block
                parts, earlier = self._plan(number)
            part = int(parts[draw % block])
            epoch, position = divmod(number * self.shares[part] + int(earlier[draw % block]), self.sizes[part])
            if orders[part][0] != epoch:
                orders[part] = epoch, self._part_order(part, epoch)
            item = self._starts[part] + int(orders[part][1][position])
            yield DrawIndex(item, mix_seed(self.seed, "draw", draw))
            draw += self.world_size

    def __len__(self) -> int:
        """Return the number of draws of one rank until the part that takes longest has been drawn once."""
        longest = max(size * sum(self.shares) / share for size, share in zip(self.sizes, self.shares))
        return math.ceil(longest / self.world_size)

    def _plan(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the part of each draw of a block, and how many draws of the block before it are of the same part."""
        generator = np.random.default_rng(mix_seed(self.seed, "parts", number))
        parts = generator.permutation(np.arange(len(self.shares)).repeat(self.shares))
        earlier = np.zeros_like(parts)
        for part, share in enumerate(self.shares):
            earlier[parts == part] = np.arange(share)
        return parts, earlier

    def _part_order(self, part: int, epoch: int) -> np.ndarray:
        """Return the items of a part in the order of an epoch, (n,) int64."""
        return np.random.default_rng(mix_seed(self.seed, "order", part, epoch)).permutation(self.sizes[part])


def _whole_shares(weights: Sequence[float], block: int) -> list[int]:
    """Return how many of `block` draws each part gets: whole numbers nearest to the weights that sum to `block`."""
    exact = np.array(weights, np.float64) / sum(weights) * block
    shares = np.floor(exact).astype(int)
    largest_rests = np.argsort(shares - exact, kind="stable")[: block - int(shares.sum())]
    shares[largest_rests] += 1
    return shares.tolist()
