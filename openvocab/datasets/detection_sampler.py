"""Draws for detection: images of rare classes more often, images of one shape in one batch."""

from collections.abc import Iterator, Sequence

import numpy as np

from openvocab.datasets.detection import DetectionDataset
from openvocab.datasets.sampler import ResumableSampler
from openvocab.registry import DATA_SAMPLERS
from openvocab.seeding import DrawIndex, mix_seed


@DATA_SAMPLERS.register_module()
class DetectionSampler(ResumableSampler):
    """Draw without end, as `ResumableSampler` does, with repeat factors and in groups of one aspect ratio.

    Order and seed of each draw depend on `seed` (and, with groups, on `batch_size` and the number of ranks) alone, so
    that a run can be resumed at any draw. Epochs differ in length where items are repeated at random.

    Args:
        dataset: a `DetectionDataset`.
        repeat_threshold: share of images below which a class is repeated (LVIS: 0.001); None repeats nothing.
        batch_size: of one rank: batches are then made of images with similar width / height, on all ranks at once, so
            that little of them is padding. None leaves the order as it is.
        window: batches among which images are exchanged to be grouped; more of them, more alike.
        shuffle: False keeps the dataset's own order.
        seed: the same on all ranks; None agrees on a random one.

    Raises:
        TypeError: another kind of dataset.
        ValueError: a number out of range, groups without shuffling.
    """

    def __init__(
        self,
        dataset: DetectionDataset,
        repeat_threshold: float | None = None,
        batch_size: int | None = None,
        window: int = 32,
        shuffle: bool = True,
        seed: int | None = None,
    ) -> None:
        if not isinstance(dataset, DetectionDataset):
            raise TypeError(f"DetectionSampler: expected a DetectionDataset, got {type(dataset).__name__}")
        if repeat_threshold is not None and not 0 < repeat_threshold <= 1:
            raise ValueError(f"repeat_threshold: expected a share above 0, at most 1, got {repeat_threshold}")
        if batch_size is not None and (batch_size < 1 or window < 1):
            raise ValueError(f"batch_size and window: expected 1 or more, got {batch_size} and {window}")
        if batch_size is not None and not shuffle:
            raise ValueError("batch_size groups images of one shape, which changes their order; it needs shuffle=True")
        super().__init__(dataset, shuffle, seed)
        self.factors = None
        if repeat_threshold is not None:
            self.factors = repeat_factors(dataset.item_classes, len(dataset.vocabulary), repeat_threshold)
        self.aspect_ratios = None if batch_size is None else dataset.aspect_ratios
        self.batch_size, self.window = batch_size, window

    def __iter__(self) -> Iterator[DrawIndex]:
        """Yield this rank's draws, forever."""
        draw, epoch, first = self.start + self.rank, 0, 0
        order = self._order_from(epoch, first)
        while True:
            while draw >= first + len(order):
                epoch, first = epoch + 1, first + len(order)
                order = self._order_from(epoch, first)
            yield DrawIndex(int(order[draw - first]), mix_seed(self.seed, "draw", draw))
            draw += self.world_size

    def __len__(self) -> int:
        """Draws of one rank in one time through the dataset, on average."""
        total = self.size if self.factors is None else float(self.factors.sum())
        return -int(-total // self.world_size)

    def _order_from(self, epoch: int, first: int) -> np.ndarray:
        """Return the items of an epoch whose first draw has the number `first`."""
        generator = np.random.default_rng(mix_seed(self.seed, "order", epoch))
        order = np.arange(self.size)
        if self.factors is not None:
            order = order.repeat(repeat_counts(self.factors, generator))
        if self.shuffle:
            generator.shuffle(order)
        if self.aspect_ratios is None:
            return order
        block = self.batch_size * self.world_size
        mixed = -first % block  # the end of a batch that the epoch before has begun
        grouped = group_by_shape(order[mixed:], self.aspect_ratios, block, self.window, generator)
        return np.concatenate([order[:mixed], grouped])


def repeat_factors(item_classes: Sequence[np.ndarray], num_classes: int, threshold: float) -> np.ndarray:
    """Return how often each image is shown in an epoch, on average (arXiv 1908.03195).

    A class that f of the images contain has the factor max(1, sqrt(threshold / f)), an image the largest factor of its
    classes, and 1 without any.

    Args:
        item_classes: of each image, the classes that occur in it, each once.

    Returns:
        (I,) float64.
    """
    lengths = np.array([len(classes) for classes in item_classes])
    flat = np.concatenate([np.zeros(0, np.int64), *item_classes])
    share = np.bincount(flat, minlength=num_classes) / len(item_classes)
    of_class = np.sqrt(threshold / np.maximum(share, np.finfo(float).tiny)).clip(min=1)
    factors = np.ones(len(item_classes))
    np.maximum.at(factors, np.arange(len(lengths)).repeat(lengths), of_class[flat])
    return factors


def repeat_counts(factors: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Round each factor up with the probability of its fraction, else down; (I,) int64."""
    whole = np.floor(factors)
    return (whole + (generator.random(len(factors)) < factors - whole)).astype(np.int64)


def group_by_shape(
    order: np.ndarray, aspect_ratios: np.ndarray, block: int, window: int, generator: np.random.Generator
) -> np.ndarray:
    """Exchange items within windows of `window` blocks so that each block has similar aspect ratios; shuffle blocks.

    Returns:
        A permutation of `order`; only its last block may be incomplete.
    """
    grouped = []
    for start in range(0, len(order), window * block):
        part = order[start : start + window * block]
        part = part[np.argsort(aspect_ratios[part], kind="stable")]
        full = len(part) // block * block
        blocks = part[:full].reshape(-1, block)  # (blocks, block)
        grouped += [generator.permutation(blocks).reshape(-1), part[full:]]
    return np.concatenate([np.zeros(0, order.dtype), *grouped])
