"""The plainest way from an image to network outputs."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from openvocab.inference.base import Inference
from openvocab.registry import INFERENCERS
from openvocab.structures import Sample


@INFERENCERS.register_module()
class WholeImage(Inference):
    """Give the network the padded batch as it is."""

    takes_logit_maps = True

    def __call__(
        self, network: Callable[[Tensor], Any], images: Tensor, samples: Sequence[Sample], black: Tensor
    ) -> Any:
        """Return the network's outputs for `images` (B, 3, H, W)."""
        return network(images)
