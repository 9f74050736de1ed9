"""A sampler for few-shot training: two images of one class at a time."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Literal, Protocol

import numpy as np

from openvocab.argument_checks import check_choice
from openvocab.datasets.sampler import ResumableSampler
from openvocab.registry import DATA_SAMPLERS
from openvocab.seeding import DrawIndex, mix_seed


class SingleClassItems(Protocol):
    """A dataset in which each item shows one class."""

    class_of_item: list[int]
    """Class index of each item."""

    def __len__(self) -> int: ...


@DATA_SAMPLERS.register_module()
class EpisodeSampler(ResumableSampler):
    """Draw episodes endlessly: a query, then a support, another item of its class (HSNet's loader, LSeg's training).

    A batch of 2E images holds E episodes. Of W ranks, rank r takes the episodes r, r + W, r + 2W, ... Each draw depends
    only on `seed` and its number, so that a run can be resumed at any draw.

    Args:
        dataset: a `FewShotDataset` or `FSS1000Dataset`.
        queries: `all` takes every item once per epoch as the query, in a new random order (PASCAL-5i, FSS-1000);
            `by_class` draws a class, then an item of it (COCO-20i).
        seed: the same on all ranks; by default the ranks agree on a random one.

    Raises:
        TypeError: a dataset whose items have no class.
        ValueError: an unknown choice, or a class with a single item, which has no support.
    """

    def __init__(
        self, dataset: SingleClassItems, queries: Literal["all", "by_class"] = "all", seed: int | None = None
    ) -> None:
        check_choice("queries", queries, ("all", "by_class"))
        if not hasattr(dataset, "class_of_item"):
            raise TypeError(f"EpisodeSampler: expected a few-shot dataset, got {type(dataset).__name__}")
        super().__init__(dataset, seed=seed)
        self.queries = queries
        self.class_of_item = list(dataset.class_of_item)
        self.items_of: dict[int, list[int]] = defaultdict(list)
        for item, index in enumerate(self.class_of_item):
            self.items_of[index].append(item)
        too_few = [index for index, items in self.items_of.items() if len(items) == 1]
        if too_few:
            raise ValueError(f"EpisodeSampler: an episode needs two images, but the classes {too_few} have one each")

    def __iter__(self) -> Iterator[DrawIndex]:
        """Yield this rank's draws, forever."""
        step, epoch = self.start // self.world_size, -1
        order: list[int] = []
        while True:
            number = step // 2 * self.world_size + self.rank
            if number // self.size != epoch:
                epoch = number // self.size
                order = self._order(epoch)
            episode = self._episode(number, order[number % self.size])
            draw = step * self.world_size + self.rank
            yield DrawIndex(episode[step % 2], mix_seed(self.seed, "draw", draw))
            step += 1

    def __len__(self) -> int:
        """Return the number of draws of one rank in one epoch: as many episodes as there are items."""
        return 2 * super().__len__()

    def _episode(self, number: int, item: int) -> tuple[int, int]:
        """Return query and support of an episode; `item` is the query, ignored with `by_class`."""
        generator = np.random.default_rng(mix_seed(self.seed, "episode", number))
        if self.queries == "by_class":
            classes = list(self.items_of)
            items = self.items_of[classes[generator.integers(len(classes))]]
            item = items[generator.integers(len(items))]
        others = self.items_of[self.class_of_item[item]]
        support = generator.integers(len(others) - 1)
        return item, others[support + (others[support] >= item)]  # items are in order: skip the query itself
