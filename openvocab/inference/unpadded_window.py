"""Sliding windows on the image without the padding of its batch."""

import copy
from collections.abc import Callable, Sequence
from functools import partial

import torch.nn.functional as F
from torch import Tensor

from openvocab.inference.sliding_window import Images, Outputs, SlidingWindow, input_size
from openvocab.inference.stretched_logits import Stretching
from openvocab.logit_map import ExtendedLogits
from openvocab.registry import INFERENCERS
from openvocab.structures import Sample, Size


@INFERENCERS.register_module()
class UnpaddedSlidingWindow(SlidingWindow):
    """`SlidingWindow` on the unpadded image, with logits averaged at full resolution, as in mmsegmentation.

    GroupViT and the training-free readouts are evaluated this way. Windows start every `stride` pixels, and the last
    window of a row ends at the last pixel of the image. The logits of each window are first resized to its pixels.

    Args:
        window, stride, batch_size: see `SlidingWindow`.
        patch_size: patch size of the network, in pixels. If given, an image smaller than the window becomes one smaller
            window, cropped to whole patches, and its logits are resized to the full image. Otherwise such an image is
            padded with black.
        align_corners: argument of the resizing.
        pamr_dilations, pamr_steps: refine the logits of each window on its pixels by `pamr`, as Talk2DINO does (1, 2,
            4, 8, 12, 24); default: no refinement.

    Raises:
        ValueError: see `SlidingWindow`; the patch is larger than the window.
    """

    def __init__(
        self,
        window: int | Size,
        stride: int | Size,
        batch_size: int = 4,
        patch_size: int | None = None,
        align_corners: bool = False,
        pamr_dilations: Sequence[int] = (),
        pamr_steps: int = 10,
    ) -> None:
        super().__init__(window, stride, batch_size)
        if patch_size is not None and not 1 <= patch_size <= min(self.window):
            raise ValueError(f"patch_size: expected 1 to {min(self.window)}, the window, got {patch_size}")
        self.patch_size = patch_size
        self.stretching = Stretching(patch_size or 1, align_corners, tuple(pamr_dilations), pamr_steps)

    def __call__(
        self, network: Callable[[Tensor], Outputs], images: Images, samples: Sequence[Sample], black: Tensor
    ) -> Outputs:
        """Return logits (B, K, H, W) for the padded `images` (B, 3, H, W); the padding repeats the border.

        Raises:
            TypeError, ValueError: see `SlidingWindow`; the batch has images of different sizes.
        """
        size = shared_size(samples)
        unpadded = images[..., : size[0], : size[1]] if isinstance(images, Tensor) else images.with_size(size)
        # For the averaging, the output grid is then the pixels themselves, so that windows may start at any pixel.
        windows = partial(self.stretching.run, network)
        logits = SlidingWindow.__call__(self._fitted(size), windows, unpadded, samples, black)
        return with_padding(logits, input_size(images))

    def _fitted(self, size: Size) -> "UnpaddedSlidingWindow":
        """Return this strategy with windows that are no larger than the image."""
        if self.patch_size is None or all(side <= length for side, length in zip(self.window, size)):
            return self
        fitted = copy.copy(self)  # shallow, to share the batch sizes that were found to fit into memory
        fitted.window = _smaller(self.window, size)
        # A stride above the window would skip pixels.
        fitted.stride = _smaller(self.stride, fitted.window)
        return fitted


def _smaller(size: Size, limit: Size) -> Size:
    return min(size[0], limit[0]), min(size[1], limit[1])


def shared_size(samples: Sequence[Sample]) -> Size:
    """Return the common (height, width) of the images of a batch without their padding.

    Raises:
        ValueError: they have different sizes.
    """
    sizes = {(sample.input_size[0], sample.input_size[1]) for sample in samples}
    if len(sizes) > 1:
        raise ValueError(f"expected images of one size in a batch, got {sorted(sizes)}; use batch_size=1")
    return sizes.pop()


def with_padding(logits: Outputs, size: Size) -> Outputs:
    """Repeat the last row and column of logits (B, K, h, w), or of one map per image, up to `size`."""
    if not isinstance(logits, Tensor):
        return [ExtendedLogits(part, size) for part in logits]
    bottom, right = (length - part for length, part in zip(size, logits.shape[-2:]))
    return F.pad(logits, (0, right, 0, bottom), mode="replicate")  # (B, K, *size)
