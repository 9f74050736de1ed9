"""A batch that stays uint8 until a part of it is read: as float32, a large image would take four times the memory."""

from collections.abc import Sequence

import torch
from torch import Tensor

from openvocab.structures import Size


class PixelBatch:
    """Images that are normalized and padded when they are read.

    Args:
        images: [(3, H_i, W_i) uint8], with any strides.
        size: (H, W) of the padded batch.
        scale, shift: (1, 3, 1, 1) float32; a pixel is normalized to pixel * scale + shift, on their device.
        padding: (1, 3, 1, 1) float32, the normalized pixel that fills the batch; default: black, which is `shift`.
    """

    def __init__(
        self, images: Sequence[Tensor], size: Size, scale: Tensor, shift: Tensor, padding: Tensor | None = None
    ) -> None:
        self.images = list(images)
        self.size: Size = (size[0], size[1])
        self.scale, self.shift, self.padding = scale, shift, padding

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(B, 3, H, W)."""
        return (len(self.images), 3, *self.size)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, part: slice) -> "PixelBatch":
        """Return the batch of some of the images."""
        return PixelBatch(self.images[part], self.size, self.scale, self.shift, self.padding)

    def with_size(self, size: Size) -> "PixelBatch":
        """Return the same images padded, or cropped, to another size (H, W)."""
        return PixelBatch(self.images, size, self.scale, self.shift, self.padding)

    def read(self, y: int, x: int, size: Size) -> Tensor:
        """Return the window of `size` (h, w) at pixel (y, x) of every image, (B, 3, h, w) float32 channels_last."""
        batch = self.images[0].new_zeros((len(self.images), 3, *size))  # black is zero before normalizing
        # Clipped to the batch's size as well, which `with_size` may have made smaller than the image.
        rows, columns = slice(y, min(y + size[0], self.size[0])), slice(x, min(x + size[1], self.size[1]))
        windows = [image[:, rows, columns] for image in self.images]
        for row, window in zip(batch, windows):
            row[:, : window.shape[1], : window.shape[2]] = window
        # Sent to the device as uint8, a quarter of the bytes of float32.
        batch = batch.to(self.scale.device, non_blocking=True)
        normalized = torch.addcmul(self.shift, batch.float(), self.scale)  # (B, 3, h, w) float32
        if self.padding is not None:
            for row, window in zip(normalized, windows):
                row[:, window.shape[1] :] = row[:, :, window.shape[2] :] = self.padding[0]
        return normalized.contiguous(memory_format=torch.channels_last)  # convolutions are up to twice as fast

    def whole(self) -> Tensor:
        """Return the whole batch, (B, 3, H, W) float32 channels_last."""
        return self.read(0, 0, self.size)
