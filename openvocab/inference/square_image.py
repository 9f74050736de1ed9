"""The whole image, padded to a square."""

from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from openvocab.inference.base import Inference
from openvocab.pixel_batch import PixelBatch
from openvocab.registry import INFERENCERS
from openvocab.structures import Sample, size_of


@INFERENCERS.register_module()
class SquareImage(Inference):
    """Run the network on the padded batch, padded further to a square with black at the right and the bottom.

    OWLv2 sees images this way; the test pipeline resizes their long side (`Resize(long_side=960)`). The outputs cover
    the square, so that this is for heads whose outputs are boxes in pixels of the input.
    """

    reads_pixel_batches = True

    def __call__(
        self,
        network: Callable[[Tensor], Any],
        images: Tensor | PixelBatch,
        samples: Sequence[Sample],
        black: Tensor,
    ) -> Any:
        """Return the network's outputs for `images` (B, 3, H, W) as (B, 3, S, S), S = max(H, W)."""
        side = max(images.shape[-2:])
        if isinstance(images, PixelBatch):
            return network(images.with_size((side, side)).whole())
        height, width = size_of(images)
        # black is zero only before the shift
        return network(F.pad(images - black, (0, side - width, 0, side - height)) + black)
