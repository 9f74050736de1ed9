"""Logits at the pixels of what a network saw, whatever its stride."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from openvocab.inference.sliding_window import Outputs, check_dense
from openvocab.logit_map import LOGITS_IN_MEMORY, ResizedLogits, TensorLogits


def stretched_logits(network: Callable[[Tensor], Outputs], patch_size: int, images: Tensor) -> Outputs:
    """Run a network on images without what is left beyond whole patches, and stretch its logits over all pixels.

    Args:
        network: maps images to logits (B, K, h, w), or to a map for each.
        patch_size: of the network.
        images: (B, 3, H, W), at least a patch large.

    Returns:
        logits (B, K, H, W), or a map for each image where they are many; bilinear, corners not aligned.
    """
    size = tuple(images.shape[-2:])
    height, width = (length // patch_size * patch_size for length in size)
    outputs = network(images[..., :height, :width])
    if not isinstance(outputs, list):
        outputs = check_dense(outputs)
        if outputs.shape[0] * outputs.shape[1] * size[0] * size[1] <= LOGITS_IN_MEMORY:
            is_fine = outputs.shape[-2:] == size
            return outputs if is_fine else F.interpolate(outputs.float(), size=size, mode="bilinear")
        outputs = [TensorLogits(logits) for logits in outputs]
    return [logits if logits.shape[1:] == size else ResizedLogits(logits, size) for logits in outputs]
