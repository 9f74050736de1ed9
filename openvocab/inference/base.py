"""The contract of an inference strategy: from images to the network's outputs, in one piece or in many."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from openvocab.pixel_batch import PixelBatch
from openvocab.structures import Sample


class Inference:
    """How a network that takes batches of one size sees images of any size."""

    takes_logit_maps: bool = False
    """Whether the network may answer with a `LogitMap` per image in the place of (B, K, h, w)."""
    reads_pixel_batches: bool = False
    """Whether it reads a large image window by window, so that the batch need not be normalized as a whole."""

    def __call__(
        self,
        network: Callable[[Tensor], Any],
        images: Tensor | PixelBatch,
        samples: Sequence[Sample],
        black: Tensor,
    ) -> Any:
        """Return the network's outputs for a batch.

        Args:
            network: of normalized images (B, 3, H, W).
            images: (B, 3, H, W), normalized; a `PixelBatch` where `reads_pixel_batches`.
            samples: of the images, with their sizes.
            black: the normalized black pixel (1, 3, 1, 1), for filling up.
        """
        raise NotImplementedError
