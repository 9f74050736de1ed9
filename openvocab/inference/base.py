"""Base class of inference strategies, which run a network on whole images or on parts of them."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from openvocab.pixel_batch import PixelBatch
from openvocab.structures import Sample


class Inference:
    """Runs a network that takes batches of one size on images of any size."""

    takes_logit_maps: bool = False
    """Whether the network may return a list of one `LogitMap` per image instead of (B, K, h, w)."""
    reads_pixel_batches: bool = False
    """Whether images are read window by window, so that the batch need not be normalized as a whole."""

    def __call__(
        self,
        network: Callable[[Tensor], Any],
        images: Tensor | PixelBatch,
        samples: Sequence[Sample],
        black: Tensor,
    ) -> Any:
        """Return the network's outputs for a batch.

        Args:
            network: takes normalized images (B, 3, H, W).
            images: (B, 3, H, W), normalized; may be a `PixelBatch` if `reads_pixel_batches`.
            samples: the samples of the images, with their sizes.
            black: the normalized pixel (1, 3, 1, 1) of the padding: black, or that of the model's `padding`.

        Returns:
            What the head's `postprocess` takes: logits (B, K, h, w) or a list of one `LogitMap` per image from a dense
            head, else whatever the network returns.
        """
        raise NotImplementedError

    def check_normalized(self, images: Tensor | PixelBatch) -> Tensor:
        """Return `images` (B, 3, H, W) if they are normalized already.

        Raises:
            TypeError: they are a `PixelBatch`.
        """
        if isinstance(images, PixelBatch):
            raise TypeError(f"{type(self).__name__} needs normalized images, got a PixelBatch; pass images.whole()")
        return images
