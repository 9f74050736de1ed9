"""A sampler for detection: images of rare classes more often, images of similar shapes in one batch."""

from collections.abc import Iterator, Sequence

import numpy as np

from openvocab.datasets.detection import DetectionDataset
from openvocab.datasets.sampler import ResumableSampler
from openvocab.registry import DATA_SAMPLERS
from openvocab.seeding import DrawIndex, mix_seed


@DATA_SAMPLERS.register_module()
class DetectionSampler(ResumableSampler):
    """Draw endlessly, as `ResumableSampler` does, with repeat factors and in batches of similar aspect ratios.

    Order and seed of each draw depend only on `seed` (with `batch_size`, also on that and the number of ranks), so that
    a run can be resumed at any draw. Epochs differ in length if items are repeated, which is random.

    Args:
        dataset: a `DetectionDataset`.
        repeat_threshold: a class in a smaller fraction of the images is repeated (LVIS: 0.001); default: none.
        batch_size: batch size of one rank: batches then have images with similar width / height, on all ranks at once,
            so that they have little padding. Default: the order stays as it is.
        window: number of batches within which images are regrouped; with more of them, batches are more uniform.
        shuffle: False keeps the dataset's own order.
        seed: the same on all ranks; by default the ranks agree on a random one.

    Raises:
        TypeError: the dataset is of another type.
        ValueError: a number out of range, `batch_size` without shuffling.
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
            raise ValueError(f"repeat_threshold: expected a fraction above 0, at most 1, got {repeat_threshold}")
        if batch_size is not None and (batch_size < 1 or window < 1):
            raise ValueError(f"batch_size and window: expected 1 or more, got {batch_size} and {window}")
        if batch_size is not None and not shuffle:
            raise ValueError("batch_size groups images by shape, which changes their order; it needs shuffle=True")
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
        """Return the number of draws of one rank in one epoch, on average."""
        total = self.size if self.factors is None else float(self.factors.sum())
        return -int(-total // self.world_size)

    def _order_from(self, epoch: int, first: int) -> np.ndarray:
        """Return the items of an epoch whose first draw is draw number `first`, (n,) int64."""
        generator = np.random.default_rng(mix_seed(self.seed, "order", epoch))
        order = np.arange(self.size)
        if self.factors is not None:
            order = order.repeat(repeat_counts(self.factors, generator))
        if self.shuffle:
            generator.shuffle(order)
        if self.aspect_ratios is None or self.batch_size is None:
            return order
        block = self.batch_size * self.world_size  # one batch on each rank
        mixed = -first % block  # the rest of a batch that the previous epoch began
        grouped = group_by_shape(order[mixed:], self.aspect_ratios, block, self.window, generator)
        return np.concatenate([order[:mixed], grouped])


def repeat_factors(item_classes: Sequence[np.ndarray], num_classes: int, threshold: float) -> np.ndarray:
    """Return how often each image is drawn per epoch, on average (arXiv 1908.03195).

    A class in a fraction f of the images has the factor max(1, sqrt(threshold / f)), and an image has the largest
    factor of its classes, or 1 if it has none.

    Args:
        item_classes: for each of I images, the classes that occur in it, each once.
        num_classes: size of the vocabulary.
        threshold: fraction of images below which a class is repeated.

    Returns:
        (I,) float64.
    """
    lengths = np.array([len(classes) for classes in item_classes])
    flat = np.concatenate([np.zeros(0, np.int64), *item_classes])
    fraction = np.bincount(flat, minlength=num_classes) / len(item_classes)  # (K,)
    # classes without an image divide by zero otherwise; nothing reads their factor
    class_factors = np.sqrt(threshold / np.maximum(fraction, np.finfo(float).tiny)).clip(min=1)  # (K,)
    factors = np.ones(len(item_classes))
    np.maximum.at(factors, np.arange(len(lengths)).repeat(lengths), class_factors[flat])
    return factors


def repeat_counts(factors: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Round each of the (I,) factors up with the probability of its fractional part, else down; (I,) int64."""
    floor = np.floor(factors)
    return (floor + (generator.random(len(factors)) < factors - floor)).astype(np.int64)


def group_by_shape(
    order: np.ndarray, aspect_ratios: np.ndarray, block: int, window: int, generator: np.random.Generator
) -> np.ndarray:
    """Regroup items within windows of `window` blocks so that each block has similar aspect ratios; shuffle blocks.

    Args:
        order: (n,) items.
        aspect_ratios: (I,) width / height of every item.
        block: number of items per block.
        window: number of blocks per window.
        generator: shuffles the blocks.

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
