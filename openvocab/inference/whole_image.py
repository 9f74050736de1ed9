"""The whole image in one forward pass."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from openvocab.inference.base import Inference
from openvocab.pixel_batch import PixelBatch
from openvocab.registry import INFERENCERS
from openvocab.structures import Sample


@INFERENCERS.register_module()
class WholeImage(Inference):
    """Run the network on the padded batch."""

    takes_logit_maps = True

    def __call__(
        self,
        network: Callable[[Tensor], Any],
        images: Tensor | PixelBatch,
        samples: Sequence[Sample],
        black: Tensor,
    ) -> Any:
        """Return the network's outputs for `images` (B, 3, H, W); see `Inference.__call__`."""
        return network(self.check_normalized(images))
