"""Sliding windows that end where the image ends, not where its padding does."""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor

from openvocab.inference.sliding_window import SlidingWindow
from openvocab.registry import INFERENCERS
from openvocab.structures import Sample


@INFERENCERS.register_module()
class UnpaddedSlidingWindow(SlidingWindow):
    """`SlidingWindow` on the image without the padding of its batch, as mmsegmentation does it (GroupViT's evaluation).

    The last window of a row then ends at the last pixel of the image. For heads with one output a pixel: the grids of
    windows at any pixel must fall onto each other.

    Args:
        window, stride, batch_size: see `SlidingWindow`.
    """

    def __call__(
        self, network: Callable[[Tensor], Tensor], images: Tensor, samples: Sequence[Sample], black: Tensor
    ) -> Tensor:
        """Return logits (B, K, H, W) over the padded `images` (B, 3, H, W); the padding repeats the border.

        Raises:
            TypeError, ValueError: see `SlidingWindow`; images of different sizes in one batch.
        """
        sizes = {tuple(sample.input_size) for sample in samples}
        if len(sizes) > 1:
            raise ValueError(f"expected images of one size in a batch, got {sorted(sizes)}; use batch_size=1")
        height, width = sizes.pop()
        logits = super().__call__(network, images[..., :height, :width], samples, black)
        below, right = images.shape[-2] - height, images.shape[-1] - width
        return F.pad(logits, (0, right, 0, below), mode="replicate")
