"""Several scales and mirror images, as in the official LSeg evaluation."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from openvocab.inference.base import Inference
from openvocab.inference.sliding_window import check_dense, pad_with_black
from openvocab.pixel_batch import PixelBatch
from openvocab.registry import INFERENCERS
from openvocab.structures import Sample, Size, size_of


@INFERENCERS.register_module()
class MultiScaleFlip(Inference):
    """Sum the logits of an image over scales and mirror images, each at full resolution.

    At scale s the long side becomes ceil(base_size * s). An image that fits into a window of `crop_size` is padded to
    it with black; a larger one is divided into windows every `stride` pixels, whose logits are averaged where they
    overlap. The logits of each scale are resized to the size of the image and summed. This takes memory for a few maps
    (K, H, W) of the largest scale.

    Scales are relative to the original image, so a test pipeline that resizes it first is rejected; see
    `configs/lseg_ade_multi_scale.py` for one that does not.

    Args:
        scales: default: ADE20K's; Cityscapes: 0.75, 1, 1.25, 1.5, 1.75, 2, 2.25.
        flip: whether to add the mirror image at every scale.
        base_size: long side at scale 1, in pixels.
        crop_size: side of the square window in pixels, divisible by the backbone's stride.
        stride: distance between windows in pixels; default: two thirds of `crop_size`, rounded up.
        align_corners: argument of all resizing, as in the official code.
        takes_resized: accept an image that the pipeline has resized; the logits then have its resized size.

    Raises:
        ValueError: there are no scales, or a size or scale is not positive.

    Reference: arXiv 2201.03546, official evaluator (windows at the border are cut and padded, not shifted).
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
        self,
        network: Callable[[Tensor], Tensor],
        images: Tensor | PixelBatch,
        samples: Sequence[Sample],
        black: Tensor,
    ) -> Tensor:
        """Return summed logits (B, K, H, W) for `images` (B, 3, H, W), with zeros at the batch's padding.

        Raises:
            TypeError: the head's outputs are not one tensor (B, K, h, w), or the images are not normalized.
            ValueError: the pipeline has resized an image, without `takes_resized`.
        """
        images = self.check_normalized(images)
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
                f"from {tuple(sample.original_size)} to {tuple(sample.input_size)} (height, width): remove its "
                "Resize, as configs/lseg_ade_multi_scale.py does, or set takes_resized=True"
            )

    def _all_scales(self, network: Callable[[Tensor], Tensor], image: Tensor, black: Tensor) -> Tensor:
        """Return the summed logits (1, K, H, W) of one image (1, 3, H, W)."""
        size = size_of(image)

        def logits_at(scale: float) -> Tensor:
            scaled = self._resize(image, self._scaled_size(size, scale))
            return self._resize(self._one_scale(network, scaled, black), size)

        # A running sum in place: only one scale's logits exist next to it.
        total = logits_at(self.scales[0])
        for scale in self.scales[1:]:
            total.add_(logits_at(scale))
        return total

    def _scaled_size(self, size: Size, scale: float) -> Size:
        long_side = math.ceil(self.base_size * scale)
        # Half up, as in the official code; Python's round would take the even neighbor.
        height, width = (max(1, math.floor(length * long_side / max(size) + 0.5)) for length in size)
        return height, width

    def _one_scale(self, network: Callable[[Tensor], Tensor], image: Tensor, black: Tensor) -> Tensor:
        """Return the logits (1, K, H, W) of one scaled image (1, 3, H, W)."""
        height, width = image.shape[-2:]
        crop = self.crop_size
        if max(height, width) <= crop:
            return self._window(network, image, black)
        image = pad_with_black(image, (crop, crop), black)
        # The first window, at (0, 0), tells the number of classes.
        first = self._window(network, image[..., :crop, :crop], black)
        total = first.new_zeros(*first.shape[:2], *image.shape[-2:])  # (1, K, H, W)
        counts = first.new_zeros(image.shape[-2:])
        for y in self._starts(image.shape[2]):
            for x in self._starts(image.shape[3]):
                window = image[..., y : y + crop, x : x + crop]
                logits = first if x == y == 0 else self._window(network, window, black)
                total[..., y : y + crop, x : x + crop] += logits
                counts[y : y + crop, x : x + crop] += 1
        # Every pixel is in at least one window, so no count is 0; the padding of a narrow image is cropped away.
        return total.div_(counts)[..., :height, :width]

    def _starts(self, length: int) -> range:
        # A last window may extend over the border and is cut there: it is padded with black by `_window`.
        return range(0, max(length - self.crop_size, 0) + self.stride, self.stride)

    def _window(self, network: Callable[[Tensor], Tensor], window: Tensor, black: Tensor) -> Tensor:
        """Return the logits (1, K, h, w) of one window (1, 3, h, w), plus those of its mirror image."""
        height, width = window.shape[-2:]
        padded = pad_with_black(window, (self.crop_size, self.crop_size), black)
        # Summed over mirror images, windows and scales: in half precision every sum would be rounded.
        logits = check_dense(network(padded)).float()
        if self.flip:
            # The padding is mirrored too, to the left, and returns to the right with the logits.
            logits = logits + check_dense(network(padded.flip(3))).float().flip(3)
        # Cropped only after the resizing, so that the padding is part of the frame that the corners are aligned with.
        return self._resize(logits, (self.crop_size, self.crop_size))[..., :height, :width]

    def _resize(self, maps: Tensor, size: Size) -> Tensor:
        if tuple(maps.shape[-2:]) == tuple(size):
            return maps
        return F.interpolate(maps, size=size, mode="bilinear", align_corners=self.align_corners)
