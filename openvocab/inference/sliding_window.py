"""Overlapping windows over a large image, logits averaged where they overlap."""

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
    """Run the network on windows and average their logits on the network's own output grid.

    Logits of up to `ELEMENTS_AT_ONCE` are one tensor; larger maps come row by row, and of the windows only those
    exist whose rows are being read: memory does not grow with the height of the image. Labels are the same.

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
        """Return logits (B, K, h, w) over `images` (B, 3, H, W), at the network's output resolution.

        Raises:
            TypeError: the head's outputs are not one tensor (B, K, h, w).
            ValueError: the grids of the windows cannot be laid onto one grid of the image.
        """
        first = _check_parts(network(_window(_at_least(images, self.window, black), (0, 0), self.window)))
        layout = _Layout(self, network, _at_least(images, self.window, black), images.shape[-2:], first)
        in_memory = isinstance(first, Tensor) and layout.num_logits <= ELEMENTS_AT_ONCE
        if in_memory and not self.rows_at_once.has_learnt:
            logits = if_memory_suffices(partial(layout.average, first), last_try=len(images) > 1)
            if logits is not None:
                return logits[0]
            self.rows_at_once.shrink_to(self.window[0])
        return [layout.parts_of(index, output) for index, output in enumerate(first)]


def window_starts(length: int, window: int, stride: int, unit: int = 1) -> list[int]:
    """Return where windows of one axis start: every `stride` (rounded down to `unit`), the last ends at the border."""
    stride = max(unit, stride // unit * unit)
    return [*range(0, length - window, stride), length - window]


def pad_with_black(images: Tensor, size: Size, black: Tensor) -> Tensor:
    """Fill `images` (B, 3, H, W) up to at least `size`, right and below, with normalized black (1, 3, 1, 1)."""
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


def _check_parts(outputs: Outputs) -> Outputs:
    is_list_of_maps = isinstance(outputs, list) and all(isinstance(part, LogitMap) for part in outputs)
    return outputs if is_list_of_maps else check_dense(outputs)


def _at_least(images: Images, size: Size, black: Tensor) -> Images:
    """Fill up images that are smaller than `size`."""
    if isinstance(images, Tensor):
        return pad_with_black(images, size, black)
    return images.with_size(tuple(map(max, images.size, size)))


def _window(images: Images, place: Size, size: Size) -> Tensor:
    """Return the window (B, 3, h, w) of `size` at pixel `place`."""
    (y, x), (height, width) = place, size
    return images[..., y : y + height, x : x + width] if isinstance(images, Tensor) else images.read(y, x, size)


class _Layout:
    """The windows of a batch.

    Args:
        images: filled up to a window at least.
        size: (H, W) of the images before that.
        first: what the network says of the first window.
    """

    def __init__(
        self, strategy: SlidingWindow, network: Callable[[Tensor], Outputs], images: Images, size: Size, first: Outputs
    ) -> None:
        self.strategy, self.network, self.images = strategy, network, images
        self.num_classes, *nodes = first[0].shape
        self.grid = _Grid(strategy.window, tuple(nodes), size)
        self.size = self.grid.size(size)
        starts = [
            window_starts(length, *sizes)
            for length, *sizes in zip(images.shape[-2:], strategy.window, strategy.stride, self.grid.unit)
        ]
        self.positions = [(y, x) for y in starts[0] for x in starts[1]]

    @property
    def num_logits(self) -> int:
        """Of the whole batch."""
        return len(self.images) * self.num_classes * math.prod(self.size)

    def average(self, first: Tensor) -> Tensor:
        """Return the logits (B, K, h, w) of all windows; `first` (B, K, n, m) are the first one's."""
        filled = self.grid.size(self.images.shape[-2:])
        total = first.new_zeros(*first.shape[:2], *filled, dtype=torch.float32)
        counts = total.new_zeros(filled)

        def add(position: Size, logits: Tensor) -> None:
            place = self.grid.place(*position)
            total[..., *place] += logits
            counts[place] += 1

        def add_windows(start: int, stop: int) -> None:
            positions = self.positions[1 + start : 1 + stop]
            outputs = self.network(self._windows(self.images, positions))
            if not isinstance(outputs, Tensor):  # the head has just found that its logits do not fit
                outputs = torch.stack([part.whole() for part in outputs])
            for position, logits in zip(positions, outputs.split(len(self.images))):
                add(position, logits)

        add(self.positions[0], first)
        self._run(add_windows, len(self.positions) - 1, len(self.images))
        return total.div_(counts)[..., : self.size[0], : self.size[1]]

    def parts_of(self, index: int, first: WindowOutput) -> WindowedLogits:
        """Return the logits of one image of the batch, row by row; `first` are those of its first window."""
        image = self.images[index : index + 1]

        def compute(indices: Sequence[int]) -> list[WindowOutput]:
            positions = [self.positions[number] for number in indices]
            groups = self._run(
                lambda start, stop: list(self.network(self._windows(image, positions[start:stop]))), len(positions), 1
            )
            return [output for group in groups for output in group]

        places = [self.grid.size(position) for position in self.positions]
        overlap = math.ceil(self.strategy.window[0] / self.strategy.stride[0]) + 1
        return WindowedLogits(self.size, places, compute, first, overlap)

    def _windows(self, images: Images, positions: Sequence[Size]) -> Tensor:
        return torch.cat([_window(images, position, self.strategy.window) for position in positions])

    def _run(self, function: Callable[[int, int], Result], num_windows: int, num_images: int) -> list[Result]:
        """Call function(start, stop) for all windows, as many at once as the strategy allows and memory holds."""
        together = max(1, self.strategy.batch_size // num_images)
        results = []
        for start in range(0, num_windows, together):
            count = min(together, num_windows - start)
            shifted = partial(_shifted, function, start)
            results += self.strategy.windows_at_once.run(shifted, count)
        return results


def _shifted(function: Callable[[int, int], Result], by: int, start: int, stop: int) -> Result:
    return function(by + start, by + stop)


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
