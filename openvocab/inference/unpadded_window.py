"""Sliding windows that end where the image ends, not where its padding does."""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor

from openvocab.inference.sliding_window import Images, Outputs, SlidingWindow
from openvocab.logit_map import ExtendedLogits
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
        self, network: Callable[[Tensor], Outputs], images: Images, samples: Sequence[Sample], black: Tensor
    ) -> Outputs:
        """Return logits (B, K, H, W) over the padded `images` (B, 3, H, W); the padding repeats the border.

        Raises:
            TypeError, ValueError: see `SlidingWindow`; images of different sizes in one batch.
        """
        sizes = {tuple(sample.input_size) for sample in samples}
        if len(sizes) > 1:
            raise ValueError(f"expected images of one size in a batch, got {sorted(sizes)}; use batch_size=1")
        height, width = sizes.pop()
        is_tensor = isinstance(images, Tensor)
        unpadded = images[..., :height, :width] if is_tensor else images.with_size((height, width))
        logits = super().__call__(network, unpadded, samples, black)
        below, right = images.shape[-2] - height, images.shape[-1] - width
        if not isinstance(logits, Tensor):
            return [ExtendedLogits(part, (part.shape[1] + below, part.shape[2] + right)) for part in logits]
        return F.pad(logits, (0, right, 0, below), mode="replicate")
