"""Overlapping windows over a large image, logits averaged where they overlap."""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from openvocab.registry import INFERENCERS
from openvocab.structures import Sample, Size


@INFERENCERS.register_module()
class SlidingWindow:
    """Run the network on windows and average their logits on the network's own output grid.

    No map at full resolution exists: windows start only where the output grid of the whole image has a node, so that
    their grids fall onto each other. For that the stride is rounded down to the next such place (a multiple of the
    network's output stride, for a ViT-B/16 read at its patches 16). The last window of a row or column is shifted to
    end at the border; where the image is smaller than the window it is filled up with black, right and below.

    A head that resizes with `align_corners=True` (LSeg) puts its outer nodes on the outer pixels of each window; joined
    to one grid they lie up to half a node off. `MultiScaleFlip` with one scale has no such error, at more memory.

    Args:
        window: (height, width) in pixels, or one number for both; divisible by the backbone's stride.
        stride: likewise; at most `window`.
        batch_size: windows that the network sees at once, at least.

    Raises:
        ValueError: a size below 1, or a stride beyond the window (pixels would be left out).
    """

    def __init__(self, window: int | Size, stride: int | Size, batch_size: int = 4) -> None:
        self.window = _pair(window)
        self.stride = _pair(stride)
        self.batch_size = batch_size
        if min(*self.window, *self.stride, batch_size) < 1 or any(s > w for s, w in zip(self.stride, self.window)):
            raise ValueError(
                f"expected 1 <= stride <= window and batch_size >= 1, got window {window}, stride {stride}, "
                f"batch_size {batch_size}"
            )

    def __call__(
        self, network: Callable[[Tensor], Tensor], images: Tensor, samples: Sequence[Sample], black: Tensor
    ) -> Tensor:
        """Return logits (B, K, h, w) over `images` (B, 3, H, W), at the network's output resolution.

        Raises:
            TypeError: the head's outputs are not one tensor (B, K, h, w).
            ValueError: the grids of the windows cannot be laid onto one grid of the image.
        """
        height, width = images.shape[-2:]
        images = pad_with_black(images, self.window, black)
        first = check_dense(network(images[..., : self.window[0], : self.window[1]]))
        grid = _Grid(self.window, tuple(first.shape[-2:]), (height, width))
        total = first.new_zeros(*first.shape[:2], *grid.size(images.shape[-2:]), dtype=torch.float32)
        counts = total.new_zeros(total.shape[-2:])
        positions = [(y, x) for y in self._starts(images, grid, 0) for x in self._starts(images, grid, 1)]
        for (y, x), logits in self._windows(network, images, positions, first):
            place = grid.place(y, x)
            total[..., *place] += logits
            counts[place] += 1
        covered_height, covered_width = grid.size((height, width))
        return (total / counts)[..., :covered_height, :covered_width]

    def _starts(self, images: Tensor, grid: "_Grid", axis: int) -> list[int]:
        return window_starts(images.shape[2 + axis], self.window[axis], self.stride[axis], grid.unit[axis])

    def _windows(
        self, network: Callable[[Tensor], Tensor], images: Tensor, positions: list[Size], first: Tensor
    ) -> Iterator[tuple[Size, Tensor]]:
        """Yield ((y, x), logits (B, K, h, w)) of every window; `first` is the one at the upper left corner."""
        yield positions[0], first
        together = max(1, self.batch_size // len(images))
        for start in range(1, len(positions), together):
            chunk = positions[start : start + together]
            windows = [images[..., y : y + self.window[0], x : x + self.window[1]] for y, x in chunk]
            yield from zip(chunk, network(torch.cat(windows)).split(len(images)))


def window_starts(length: int, window: int, stride: int, unit: int = 1) -> list[int]:
    """Return where windows of one axis start: every `stride` (rounded down to `unit`), the last ends at the border."""
    stride = max(unit, stride // unit * unit)
    return [*range(0, length - window, stride), length - window]


def pad_with_black(images: Tensor, size: Size, black: Tensor) -> Tensor:
    """Fill `images` (B, 3, H, W) up to at least `size`, right and below, with normalised black (1, 3, 1, 1)."""
    height, width = images.shape[-2:]
    if height >= size[0] and width >= size[1]:
        return images
    filled = black.to(images).repeat(len(images), 1, max(height, size[0]), max(width, size[1]))
    filled[..., :height, :width] = images
    return filled


def check_dense(logits: Tensor) -> Tensor:
    """Return `logits` if they are a map.

    Raises:
        TypeError: they are not one tensor (B, K, h, w).
    """
    if not isinstance(logits, Tensor) or logits.ndim != 4:
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise TypeError(f"windows and scales are for dense heads, whose outputs are a tensor (B, K, h, w); got {shape}")
    return logits


class _Grid:
    """How pixels of the image relate to nodes of the output grid."""

    def __init__(self, window: Size, nodes: Size, image_size: Size) -> None:
        self.window, self.nodes = window, nodes
        common = [math.gcd(pixels, count) for pixels, count in zip(window, nodes)]
        self.unit = tuple(pixels // divisor for pixels, divisor in zip(window, common))
        if any(length % unit for length, unit in zip(image_size, self.unit)):
            raise ValueError(
                f"windows of {window} pixels have {nodes} outputs, which do not continue evenly over an image of "
                f"{image_size}; choose a window that is divisible by the backbone's stride"
            )

    def size(self, pixels: Sequence[int]) -> Size:
        """Return the nodes of `pixels` (height, width)."""
        return tuple(length * count // whole for length, count, whole in zip(pixels, self.nodes, self.window))

    def place(self, y: int, x: int) -> tuple[slice, slice]:
        """Return the nodes of the window that starts at pixel (y, x)."""
        row, column = self.size((y, x))
        return slice(row, row + self.nodes[0]), slice(column, column + self.nodes[1])


def _pair(size: int | Sequence[int]) -> Size:
    return (size, size) if isinstance(size, int) else tuple(size)
