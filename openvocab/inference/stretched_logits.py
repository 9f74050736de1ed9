"""Logits that are resized to the pixels of the network's input."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from openvocab.inference.sliding_window import Outputs, check_dense
from openvocab.logit_map import LOGITS_IN_MEMORY, ResizedLogits, TensorLogits
from openvocab.ops.pamr import pamr
from openvocab.structures import Size, size_of


@dataclass(frozen=True)
class Stretching:
    """Runs a network and resizes its logits to the pixels of its input.

    Args:
        patch_size: patch size of the network; rows and columns of pixels beyond whole patches are not shown to it.
        align_corners: see `F.interpolate`.
        pamr_dilations, pamr_steps: refine the logits on the image by `pamr`; default: no refinement.
    """

    patch_size: int = 1
    align_corners: bool = False
    pamr_dilations: Sequence[int] = ()
    pamr_steps: int = 10

    def run(self, network: Callable[[Tensor], Outputs], images: Tensor) -> Outputs:
        """Run a network on images (B, 3, H, W).

        Returns:
            logits (B, K, H, W), or a list of one `LogitMap` per image if they are too large for memory.

        Raises:
            TypeError: the network's outputs are not (B, K, h, w).
            ValueError: the images are smaller than a patch.
        """
        size = size_of(images)
        if min(size) < self.patch_size:
            raise ValueError(f"{size[0]}x{size[1]} pixels hold no patch of {self.patch_size}; enlarge the image")
        # The cropped remainder is less than a patch; resizing to the full size stretches the logits over it.
        height, width = (length // self.patch_size * self.patch_size for length in size)
        outputs = network(images[..., :height, :width])
        logits = self._resize(outputs if isinstance(outputs, list) else check_dense(outputs), size)
        if not self.pamr_dilations:
            return logits
        maps = [part if isinstance(part, Tensor) else part.whole() for part in logits]  # (K, H, W) each
        refined = [pamr(part, image, self.pamr_dilations, self.pamr_steps) for part, image in zip(maps, images)]
        return torch.stack(refined)

    def _resize(self, outputs: Outputs, size: Size) -> Outputs:
        """Resize outputs (B, K, h, w) or maps to `size`; large ones become maps."""
        if isinstance(outputs, Tensor) and outputs[..., 0, 0].numel() * size[0] * size[1] <= LOGITS_IN_MEMORY:
            if outputs.shape[-2:] == size:
                return outputs
            return F.interpolate(outputs.float(), size=size, mode="bilinear", align_corners=self.align_corners)
        # Too large for memory: resize every image where it is read.
        maps = [TensorLogits(part) if isinstance(part, Tensor) else part for part in outputs]
        return [
            part if part.shape[1:] == size else ResizedLogits(part, size, align_corners=self.align_corners)
            for part in maps
        ]
