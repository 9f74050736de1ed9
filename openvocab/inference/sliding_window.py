"""Sliding-window inference: logits are averaged where windows overlap."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from openvocab.inference.base import Inference
from openvocab.inference.windowed_logits import WindowedLogits, WindowOutput
from openvocab.logit_map import ELEMENTS_AT_ONCE, LogitMap
from openvocab.pixel_batch import PixelBatch
from openvocab.process.memory_fallback import Halving, if_memory_suffices
from openvocab.registry import INFERENCERS
from openvocab.structures import Sample, Size

Images = Tensor | PixelBatch
Outputs = Tensor | list[LogitMap]
Result = TypeVar("Result")


@INFERENCERS.register_module()
class SlidingWindow(Inference):
    """Run the network on overlapping windows and average their logits on the network's own output grid.

    Up to `ELEMENTS_AT_ONCE` logits are returned as one tensor. Larger maps are computed row by row, with only those
    windows in memory that cover the rows being read, so memory does not grow with the height of the image. Labels are
    the same.

    Logits are averaged without upsampling them: windows start only at cells of the output grid of the whole image, so
    that their grids coincide. The stride is therefore rounded down to a multiple of the network's output stride (16 for
    the patches of a ViT-B/16). The last window of a row or column is shifted to end at the border. An image smaller
    than the window is padded with black, on the right and at the bottom.

    A head that resizes with `align_corners=True` (LSeg) aligns its outer cells with the outer pixels of each window; in
    the common grid they are off by up to half a cell. `MultiScaleFlip` with one scale has no such error, but needs more
    memory.

    Args:
        window: (height, width) in pixels, or one number for both; divisible by the backbone's stride.
        stride: distance between windows, likewise; at most `window`.
        batch_size: windows per forward pass, and at least one per image.

    Raises:
        ValueError: a size is below 1, or the stride exceeds the window (pixels would be skipped).
    """

    takes_logit_maps = True
    reads_pixel_batches = True

    def __init__(self, window: int | Size, stride: int | Size, batch_size: int = 4) -> None:
        self.window = _pair(window)
        self.stride = _pair(stride)
        self.batch_size = batch_size
        self.windows_at_once = Halving("windows")
        self.rows_at_once = Halving("rows of windows")
        if min(*self.window, *self.stride, batch_size) < 1 or any(s > w for s, w in zip(self.stride, self.window)):
            raise ValueError(
                f"expected 1 <= stride <= window and batch_size >= 1, got window {window}, stride {stride}, "
                f"batch_size {batch_size}"
            )

    def __call__(
        self, network: Callable[[Tensor], Outputs], images: Images, samples: Sequence[Sample], black: Tensor
    ) -> Outputs:
        """Return logits for `images` (B, 3, H, W), at the network's output resolution.

        Returns:
            (B, K, h, w), or a list of one `LogitMap` per image if they are too large for memory.

        Raises:
            TypeError: the head's outputs are not one tensor (B, K, h, w).
            ValueError: the grids of the windows do not coincide with one grid of the image.
        """
        # The first window also shows the output grid and the number of classes, which no config states.
        first = _check_outputs(network(_window(_pad(images, self.window, black), (0, 0), self.window)))
        layout = _Layout(self, network, _pad(images, self.window, black), input_size(images), first)
        fits = layout.num_logits <= ELEMENTS_AT_ONCE
        if isinstance(first, Tensor) and fits and not self.rows_at_once.has_learned:
            logits = if_memory_suffices(partial(layout.average, first), last_try=len(images) > 1)
            if logits is not None:
                return logits[0]
            self.rows_at_once.shrink_to(self.window[0])
        return [layout.parts_of(index, output) for index, output in enumerate(first)]


def window_starts(length: int, window: int, stride: int, unit: int = 1) -> list[int]:
    """Return where windows start along an axis: every `stride` (rounded down to `unit`), the last one at the border."""
    stride = max(unit, stride // unit * unit)
    return [*range(0, length - window, stride), length - window]


def pad_with_black(images: Tensor, size: Size, black: Tensor) -> Tensor:
    """Pad `images` (B, 3, H, W) to at least `size`, on the right and at the bottom, with black (1, 3, 1, 1)."""
    height, width = images.shape[-2:]
    if height >= size[0] and width >= size[1]:
        return images
    # Not F.pad: normalized black is another value in every channel.
    padded = black.to(images).repeat(len(images), 1, max(height, size[0]), max(width, size[1]))
    padded[..., :height, :width] = images
    return padded


def check_dense(logits: object) -> Tensor:
    """Return `logits` if they are one tensor (B, K, h, w).

    Raises:
        TypeError: they are something else.
    """
    if not isinstance(logits, Tensor) or logits.ndim != 4:
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise TypeError(f"windows and scales are for dense heads, whose outputs are a tensor (B, K, h, w); got {shape}")
    return logits


def _check_outputs(outputs: Outputs) -> Outputs:
    """Return outputs that are a list of maps or one tensor (B, K, h, w); else raise as `check_dense` does."""
    if isinstance(outputs, list) and all(isinstance(part, LogitMap) for part in outputs):
        return outputs
    return check_dense(outputs)


def input_size(images: Images) -> Size:
    """Return (H, W) of images (B, 3, H, W)."""
    height, width = images.shape[-2:]
    return height, width


def _pad(images: Images, size: Size, black: Tensor) -> Images:
    """Pad images that are smaller than `size`."""
    if isinstance(images, Tensor):
        return pad_with_black(images, size, black)
    height, width = input_size(images)
    return images.with_size((max(height, size[0]), max(width, size[1])))


def _window(images: Images, position: Size, size: Size) -> Tensor:
    """Return the window (B, 3, h, w) of `size` whose top left pixel is at `position` (y, x)."""
    (y, x), (height, width) = position, size
    return images[..., y : y + height, x : x + width] if isinstance(images, Tensor) else images.read(y, x, size)


class _Layout:
    """The windows of a batch and their positions.

    Args:
        strategy, network: that run the windows.
        images: (B, 3, H', W'), padded to at least a window.
        size: (H, W) of the images without this padding.
        first: the outputs for the first window.
    """

    def __init__(
        self, strategy: SlidingWindow, network: Callable[[Tensor], Outputs], images: Images, size: Size, first: Outputs
    ) -> None:
        self.strategy, self.network, self.images = strategy, network, images
        self.num_classes, rows, columns = first[0].shape
        self.grid = _Grid(strategy.window, (rows, columns), size)
        self.size = self.grid.size(size)
        starts = [
            window_starts(length, *sizes)
            for length, *sizes in zip(images.shape[-2:], strategy.window, strategy.stride, self.grid.unit)
        ]
        self.positions = [(y, x) for y in starts[0] for x in starts[1]]

    @property
    def num_logits(self) -> int:
        """Number of logits of the whole batch."""
        return len(self.images) * self.num_classes * math.prod(self.size)

    def average(self, first: Tensor) -> Tensor:
        """Return the averaged logits (B, K, h, w) of all windows, given those of the first, (B, K, n, m)."""
        padded_size = self.grid.size(input_size(self.images))
        # A sum and a count instead of a stack of windows: memory for one map, whatever the overlap.
        # float32 even if the network computes in half precision, whose sums over windows would lose bits.
        total = first.new_zeros(*first.shape[:2], *padded_size, dtype=torch.float32)
        counts = total.new_zeros(padded_size)

        def add(position: Size, logits: Tensor) -> None:
            rows, columns = self.grid.cells_of_window(*position)
            total[..., rows, columns] += logits  # (B, K, rows, columns)
            counts[rows, columns] += 1

        def add_windows(start: int, stop: int) -> None:
            positions = self.positions[1 + start : 1 + stop]
            outputs = self.network(self._windows(self.images, positions))
            if not isinstance(outputs, Tensor):  # the head returns maps if its logits do not fit into memory
                outputs = torch.stack([part.whole() for part in outputs])
            for position, logits in zip(positions, outputs.split(len(self.images))):
                add(position, logits)

        add(self.positions[0], first)
        self._run(add_windows, len(self.positions) - 1, len(self.images))
        # The padding of an image that is smaller than a window is cropped off.
        return total.div_(counts)[..., : self.size[0], : self.size[1]]

    def parts_of(self, index: int, first: WindowOutput) -> WindowedLogits:
        """Return the logits of one image of the batch as a map that computes them row by row.

        `first` are the logits (K, n, m) of its first window.
        """
        image = self.images[index : index + 1]

        def compute(indices: Sequence[int]) -> list[WindowOutput]:
            positions = [self.positions[number] for number in indices]
            groups = self._run(
                lambda start, stop: list(self.network(self._windows(image, positions[start:stop]))), len(positions), 1
            )
            return [output for group in groups for output in group]

        positions = [self.grid.size(position) for position in self.positions]
        # About as many rows of windows cover a cell; one more, since the last row is shifted to the border.
        overlap = math.ceil(self.strategy.window[0] / self.strategy.stride[0]) + 1
        return WindowedLogits(self.size, positions, compute, first, overlap)

    def _windows(self, images: Images, positions: Sequence[Size]) -> Tensor:
        """Return the windows (P * B, 3, h, w) of B images at P positions."""
        return torch.cat([_window(images, position, self.strategy.window) for position in positions])

    def _run(self, function: Callable[[int, int], Result], num_windows: int, num_images: int) -> list[Result]:
        """Call function(start, stop) for all windows, with as many at once as the batch size and memory allow."""
        # `batch_size` counts windows over all images of the batch.
        together = max(1, self.strategy.batch_size // num_images)
        results: list[Result] = []
        for start in range(0, num_windows, together):
            count = min(together, num_windows - start)
            shifted = partial(_shifted, function, start)
            results += self.strategy.windows_at_once.run(shifted, count)
        return results


def _shifted(function: Callable[[int, int], Result], by: int, start: int, stop: int) -> Result:
    return function(by + start, by + stop)


class _Grid:
    """Maps pixels of the image to cells of the output grid.

    Args:
        window: (height, width) in pixels.
        cells: (rows, columns) of the outputs for a window.
        image_size: (height, width) in pixels.
    """

    def __init__(self, window: Size, cells: Size, image_size: Size) -> None:
        self.window, self.cells = window, cells
        common = [math.gcd(pixels, count) for pixels, count in zip(window, cells)]
        # The smallest step, in pixels, at which a window starts at a cell: pixels per cell, if that is an integer.
        self.unit = tuple(pixels // divisor for pixels, divisor in zip(window, common))
        if any(length % unit for length, unit in zip(image_size, self.unit)):
            raise ValueError(
                f"windows of {window} pixels have {cells} outputs, a grid that does not fit an image of "
                f"{image_size}; choose a window that is divisible by the backbone's stride"
            )

    def size(self, pixels: Sequence[int]) -> Size:
        """Return the number of (rows, columns) of cells in `pixels` (height, width)."""
        rows, columns = (length * count // window for length, count, window in zip(pixels, self.cells, self.window))
        return rows, columns

    def cells_of_window(self, y: int, x: int) -> tuple[slice, slice]:
        """Return the rows and columns of the window that starts at pixel (y, x)."""
        row, column = self.size((y, x))
        return slice(row, row + self.cells[0]), slice(column, column + self.cells[1])


def _pair(size: int | Sequence[int]) -> Size:
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2:
        raise ValueError(f"expected one number or (height, width), got {size}")
    return pair
