"""Several scales and the mirror image, as the official LSeg evaluates."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from openvocab.inference.base import Inference
from openvocab.inference.sliding_window import check_dense, pad_with_black
from openvocab.registry import INFERENCERS
from openvocab.structures import Sample, Size


@INFERENCERS.register_module()
class MultiScaleFlip(Inference):
    """Sum the logits of an image over scales and mirror images, each at full resolution.

    At scale s the long side becomes ceil(base_size * s). An image that fits is filled up with black to one window of
    `crop_size`; a larger one is cut into windows every `stride` pixels, whose logits are averaged where they overlap.
    The result is resized to the image's size and summed. Memory: a few maps (K, H, W) of the largest scale.

    Scales count from the original image, so that a test pipeline that resizes it first is refused; see
    `configs/lseg_ade_multi_scale.py` for one that does not.

    Args:
        scales: ADE20K's are the default; Cityscapes: 0.75, 1, 1.25, 1.5, 1.75, 2, 2.25.
        flip: whether to add the mirror image at every scale.
        base_size: long side at scale 1, in pixels.
        crop_size: side of the square window, divisible by the backbone's stride.
        stride: between windows; default: two thirds of `crop_size`, rounded up.
        align_corners: of every resizing, as in the official code.
        takes_resized: scale what the pipeline has made of an image; the sum then has that size.

    Raises:
        ValueError: no scales, or a size or scale that is not positive.

    Reference: arXiv 2201.03546, official evaluator (windows at the border are cut and filled up, not shifted).
    """

    def __init__(
        self,
        scales: Sequence[float] = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75),
        flip: bool = True,
        base_size: int = 520,
        crop_size: int = 480,
        stride: int | None = None,
        align_corners: bool = True,
        takes_resized: bool = False,
    ) -> None:
        self.scales, self.flip, self.align_corners = tuple(scales), flip, align_corners
        self.takes_resized = takes_resized
        self.base_size, self.crop_size = base_size, crop_size
        self.stride = math.ceil(crop_size * 2 / 3) if stride is None else stride
        if not self.scales or min(*self.scales, base_size, crop_size, self.stride) <= 0 or self.stride > crop_size:
            raise ValueError(
                f"expected positive scales and 0 < stride <= crop_size, got scales {self.scales}, "
                f"base_size {base_size}, crop_size {crop_size}, stride {self.stride}"
            )

    def __call__(
        self, network: Callable[[Tensor], Tensor], images: Tensor, samples: Sequence[Sample], black: Tensor
    ) -> Tensor:
        """Return summed logits (B, K, H, W) over `images` (B, 3, H, W); padding pixels get zeros.

        Raises:
            TypeError: the head's outputs are not one tensor (B, K, h, w).
            ValueError: an image that the pipeline has resized, without `takes_resized`.
        """
        rows = []
        for image, sample in zip(images, samples):
            self._check_size(sample)
            height, width = sample.input_size
            logits = self._all_scales(network, image[None, :, :height, :width], black)  # (1, K, height, width)
            rows.append(F.pad(logits, (0, images.shape[3] - width, 0, images.shape[2] - height)))
        return torch.cat(rows)

    def _check_size(self, sample: Sample) -> None:
        if not self.takes_resized and tuple(sample.input_size) != tuple(sample.original_size):
            raise ValueError(
                f"MultiScaleFlip scales the original image, but the test pipeline has resized {sample.sample_id!r} "
                f"from {tuple(sample.original_size)} to {tuple(sample.input_size)} (height, width): leave out its "
                "Resize, as configs/lseg_ade_multi_scale.py does, or set takes_resized=True"
            )

    def _all_scales(self, network: Callable[[Tensor], Tensor], image: Tensor, black: Tensor) -> Tensor:
        size = tuple(image.shape[-2:])
        total = None
        for scale in self.scales:
            scaled = self._resize(image, self._scaled_size(size, scale))
            logits = self._resize(self._one_scale(network, scaled, black), size)
            total = logits if total is None else total.add_(logits)
        return total

    def _scaled_size(self, size: Size, scale: float) -> Size:
        long_side = math.ceil(self.base_size * scale)
        return tuple(max(1, math.floor(length * long_side / max(size) + 0.5)) for length in size)

    def _one_scale(self, network: Callable[[Tensor], Tensor], image: Tensor, black: Tensor) -> Tensor:
        """Return the logits (1, K, H, W) of one scaled image (1, 3, H, W)."""
        height, width = image.shape[-2:]
        crop = self.crop_size
        if max(height, width) <= crop:
            return self._window(network, image, black)
        image = pad_with_black(image, (crop, crop), black)
        total = counts = None
        for y in self._starts(image.shape[2]):
            for x in self._starts(image.shape[3]):
                window = image[..., y : y + crop, x : x + crop]
                logits = self._window(network, window, black)
                if total is None:
                    total = logits.new_zeros(*logits.shape[:2], *image.shape[-2:])
                    counts = logits.new_zeros(image.shape[-2:])
                total[..., y : y + crop, x : x + crop] += logits
                counts[y : y + crop, x : x + crop] += 1
        return total.div_(counts)[..., :height, :width]

    def _starts(self, length: int) -> range:
        return range(0, max(length - self.crop_size, 0) + self.stride, self.stride)

    def _window(self, network: Callable[[Tensor], Tensor], window: Tensor, black: Tensor) -> Tensor:
        """Return the logits of one window, (1, K, H, W), with its mirror image's added."""
        height, width = window.shape[-2:]
        filled = pad_with_black(window, (self.crop_size, self.crop_size), black)
        logits = check_dense(network(filled)).float()
        if self.flip:
            logits = logits + check_dense(network(filled.flip(3))).float().flip(3)
        return self._resize(logits, (self.crop_size, self.crop_size))[..., :height, :width]

    def _resize(self, maps: Tensor, size: Size) -> Tensor:
        if tuple(maps.shape[-2:]) == tuple(size):
            return maps
        return F.interpolate(maps, size=size, mode="bilinear", align_corners=self.align_corners)
