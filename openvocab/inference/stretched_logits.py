"""Logits at the pixels of what a network saw, whatever its stride."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from openvocab.inference.sliding_window import Outputs, check_dense
from openvocab.logit_map import LOGITS_IN_MEMORY, ResizedLogits, TensorLogits
from openvocab.ops.pamr import pamr


@dataclass(frozen=True)
class Stretching:
    """How logits on a network's grid come to its pixels.

    Args:
        patch_size: of the network; what is left of an image beyond whole patches it does not see.
        align_corners: as in `F.interpolate`.
        pamr_dilations, pamr_steps: refine the logits on the image by `pamr`; no dilations, no refinement.
    """

    patch_size: int = 1
    align_corners: bool = False
    pamr_dilations: Sequence[int] = ()
    pamr_steps: int = 10

    def run(self, network: Callable[[Tensor], Outputs], images: Tensor) -> Outputs:
        """Run a network on images (B, 3, H, W).

        Returns:
            logits (B, K, H, W), or a map for each image where they are many.

        Raises:
            TypeError: the network's outputs are no map.
            ValueError: images of less than a patch.
        """
        size = tuple(images.shape[-2:])
        if min(size) < self.patch_size:
            raise ValueError(f"{size[0]}x{size[1]} pixels hold no patch of {self.patch_size}; enlarge the image")
        height, width = (length // self.patch_size * self.patch_size for length in size)
        outputs = network(images[..., :height, :width])
        logits = self._stretched(outputs if isinstance(outputs, list) else check_dense(outputs), size)
        if not self.pamr_dilations:
            return logits
        whole = [part if isinstance(part, Tensor) else part.whole() for part in logits]
        refined = [pamr(part, image, self.pamr_dilations, self.pamr_steps) for part, image in zip(whole, images)]
        return torch.stack(refined)

    def _stretched(self, outputs: Outputs, size: tuple[int, int]) -> Outputs:
        if isinstance(outputs, Tensor) and outputs[..., 0, 0].numel() * size[0] * size[1] <= LOGITS_IN_MEMORY:
            if outputs.shape[-2:] == size:
                return outputs
            return F.interpolate(outputs.float(), size=size, mode="bilinear", align_corners=self.align_corners)
        maps = [TensorLogits(part) if isinstance(part, Tensor) else part for part in outputs]
        return [
            part if part.shape[1:] == size else ResizedLogits(part, size, align_corners=self.align_corners)
            for part in maps
        ]
