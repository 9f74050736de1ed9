"""Batches of images that have equal sizes, from images of any size in any order."""

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import Tensor

from openvocab.images.image_io import BadSample
from openvocab.structures import Sample, Size

logger = logging.getLogger(__name__)

BATCHES_IN_MEMORY = 4
"""The batch that the caller holds, and as many images as three batches have, which wait for others of their size."""

Prepared = tuple[Tensor, Sample]
"""What `Predictor.prepare` returns for an image: the network's input (3, H, W) uint8, and its sample."""
Prepare = Callable[[Any, int], Prepared]
"""Prepares an image, given its index."""


def equal_size_batches(
    images: Iterable[Any], prepare: Prepare, batch_size: int, skip_bad: bool = False
) -> Iterator[tuple[list[int], list[Prepared]]]:
    """Prepare images, and yield the indices and the prepared images of up to `batch_size` images of equal size.

    None is padded to the size of another, so that a result does not depend on its neighbors. Sizes may come in any
    order; at most `BATCHES_IN_MEMORY` batches are held in memory.

    Args:
        images: whatever `prepare` takes.
        prepare: prepares an image.
        batch_size: largest number of images in a batch.
        skip_bad: skip images that cannot be read, with a warning, instead of raising.

    Raises:
        TypeError, ValueError: of `prepare`, with the index of the image; or `batch_size` is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size: expected at least 1, got {batch_size}")
    waiting: dict[Size, list[tuple[int, Prepared]]] = {}

    def take(size: Size) -> tuple[list[int], list[Prepared]]:
        indices, items = zip(*waiting.pop(size))
        return list(indices), list(items)

    for index, item in _prepared(images, prepare, skip_bad):
        height, width = item[0].shape[-2:]
        same_size = waiting.setdefault((height, width), [])
        same_size.append((index, item))
        if len(same_size) == batch_size:
            yield take((height, width))
        elif sum(map(len, waiting.values())) >= (BATCHES_IN_MEMORY - 1) * batch_size:
            yield take(next(iter(waiting)))
    while waiting:
        yield take(next(iter(waiting)))


def _prepared(images: Iterable[Any], prepare: Prepare, skip_bad: bool) -> Iterator[tuple[int, Prepared]]:
    """Yield the index of each image and what it becomes; errors name the index."""
    for index, image in enumerate(images):
        try:
            item = prepare(image, index)
        except BadSample as error:
            located = BadSample(error.path, f"{error.reason} (image {index})")
            if not skip_bad:
                raise located from error
            logger.warning(f"skipped: {located}")
            continue
        except (TypeError, ValueError) as error:
            error_class = TypeError if isinstance(error, TypeError) else ValueError
            raise error_class(f"image {index}: {error}") from error
        yield index, item
