"""The whole image without the padding of its batch."""

from collections.abc import Callable, Sequence

from torch import Tensor

from openvocab.inference.base import Inference
from openvocab.inference.sliding_window import Images, Outputs
from openvocab.inference.stretched_logits import Stretching
from openvocab.inference.unpadded_window import shared_size, with_padding
from openvocab.registry import INFERENCERS
from openvocab.structures import Sample, size_of


@INFERENCERS.register_module()
class UnpaddedWholeImage(Inference):
    """Run the network on the unpadded image, cropped to whole patches, and resize the logits to the full image.

    NACLIP and others are evaluated on VOC this way. `WholeImage` pads the last patches with black instead.

    Args:
        patch_size: patch size of the network, in pixels.

    Raises:
        ValueError: the patch size is below 1.
    """

    takes_logit_maps = True

    def __init__(self, patch_size: int) -> None:
        if patch_size < 1:
            raise ValueError(f"patch_size: expected at least 1, got {patch_size}")
        self.patch_size = patch_size

    def __call__(
        self, network: Callable[[Tensor], Outputs], images: Images, samples: Sequence[Sample], black: Tensor
    ) -> Outputs:
        """Return logits (B, K, H, W) for the padded `images` (B, 3, H, W); the padding repeats the border.

        Raises:
            TypeError: the head's outputs are not one tensor (B, K, h, w), or the images are not normalized.
            ValueError: the batch has images of different sizes, or smaller than a patch.
        """
        images = self.check_normalized(images)
        height, width = shared_size(samples)
        logits = Stretching(self.patch_size).run(network, images[..., :height, :width])
        return with_padding(logits, size_of(images))
