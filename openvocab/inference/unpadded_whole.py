"""The image as one window, without the padding of its batch."""

from collections.abc import Callable, Sequence

from torch import Tensor

from openvocab.inference.base import Inference
from openvocab.inference.sliding_window import Outputs
from openvocab.inference.stretched_logits import Stretching
from openvocab.inference.unpadded_window import shared_size, with_padding
from openvocab.registry import INFERENCERS
from openvocab.structures import Sample


@INFERENCERS.register_module()
class UnpaddedWholeImage(Inference):
    """Give the network the image as it is, but for what is left beyond whole patches, and stretch the logits over it.

    As NACLIP and others evaluate on VOC. `WholeImage` fills the last patches up with black instead.

    Args:
        patch_size: of the network.

    Raises:
        ValueError: a patch size below 1.
    """

    takes_logit_maps = True

    def __init__(self, patch_size: int) -> None:
        if patch_size < 1:
            raise ValueError(f"patch_size: expected at least 1, got {patch_size}")
        self.patch_size = patch_size

    def __call__(
        self, network: Callable[[Tensor], Outputs], images: Tensor, samples: Sequence[Sample], black: Tensor
    ) -> Outputs:
        """Return logits (B, K, H, W) over the padded `images` (B, 3, H, W); the padding repeats the border.

        Raises:
            TypeError: the head's outputs are not one tensor (B, K, h, w).
            ValueError: images of different sizes in one batch, or of less than a patch.
        """
        height, width = shared_size(samples)
        logits = Stretching(self.patch_size).run(network, images[..., :height, :width])
        return with_padding(logits, tuple(images.shape[-2:]))
