"""Logits that exist only where and while they are read: label maps of any size and vocabulary in bounded memory."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from openvocab.ops.label_upsampling import bilinear, sampling_positions, upsampled_argmax
from openvocab.process.memory_fallback import Halving
from openvocab.structures import Size

LOGITS_IN_MEMORY = 1 << 27
"""Outputs of more elements than this (512 MB) are computed part by part, however much memory there is."""
ELEMENTS_AT_ONCE = 1 << 25
"""Logits that a label map is made from at a time then: 128 MB."""


class LogitMap:
    """The logits (K, h, w) of one image, part by part."""

    shape: tuple[int, int, int]
    """K, h, w."""
    device: torch.device
    """Of the parts."""
    num_kept: int = 0
    """Elements that the map holds to compute its logits of."""
    kept_rows: int = 0
    """Further rows of logits that the columns being read keep in memory until the last of their rows is read."""
    least_columns: int = 1
    """Columns that should be read together."""

    def read(self, rows: slice, columns: slice) -> Tensor:
        """Return the logits (K, n, m) of a part, float32. Parts are read from top to bottom, column after column.

        Args:
            rows, columns: with start and stop, within the map.
        """
        raise NotImplementedError

    @property
    def num_elements(self) -> int:
        """Logits of the whole map."""
        num_classes, height, width = self.shape
        return num_classes * height * width

    def whole(self) -> Tensor:
        """Return (K, h, w)."""
        return self.read(slice(0, self.shape[1]), slice(0, self.shape[2]))


class TensorLogits(LogitMap):
    """Logits (K, h, w) that exist."""

    def __init__(self, logits: Tensor) -> None:
        self.logits, self.shape, self.device = logits, tuple(logits.shape), logits.device

    def read(self, rows: slice, columns: slice) -> Tensor:
        """See `LogitMap`; the type of the tensor stays."""
        return self.logits[:, rows, columns]


class ComputedLogits(LogitMap):
    """Logits that a function computes.

    Args:
        shape, device: see `LogitMap`.
        compute: (classes, rows, columns) -> logits (k, n, m); each class by itself.
        classes_at_once: how many; None where a class cannot be computed without the others. `compute` is then always
            asked for all.
        num_kept: see `LogitMap`.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        device: torch.device,
        compute: Callable[[slice, slice, slice], Tensor],
        classes_at_once: Halving | None = None,
        num_kept: int = 0,
    ) -> None:
        self.shape, self.device, self.num_kept = shape, device, num_kept
        self.compute, self.classes_at_once = compute, classes_at_once

    def read(self, rows: slice, columns: slice) -> Tensor:
        """See `LogitMap`."""
        if self.classes_at_once is None:
            return self.compute(slice(0, self.shape[0]), rows, columns).float()
        parts = self.classes_at_once.run(
            lambda start, stop: self.compute(slice(start, stop), rows, columns).float(), self.shape[0]
        )
        return parts[0] if len(parts) == 1 else torch.cat(parts)


class ChangedLogits(LogitMap):
    """Another map's logits, each place changed by itself."""

    def __init__(self, source: LogitMap, change: Callable[[Tensor], Tensor]) -> None:
        self.source, self.change = source, change
        self.shape = source.shape
        _take_costs(self, source)

    def read(self, rows: slice, columns: slice) -> Tensor:
        """See `LogitMap`."""
        return self.change(self.source.read(rows, columns))


class ExtendedLogits(LogitMap):
    """Another map's logits, its last row and column repeated up to `size` (h, w)."""

    def __init__(self, source: LogitMap, size: Size) -> None:
        self.source = source
        self.shape = (source.shape[0], *size)
        _take_costs(self, source)

    def read(self, rows: slice, columns: slice) -> Tensor:
        """See `LogitMap`."""
        (rows, y), (columns, x) = (_inside(part, size) for part, size in zip((rows, columns), self.source.shape[1:]))
        return self.source.read(rows, columns)[:, y][:, :, x]


class ResizedLogits(LogitMap):
    """Another map's logits, resized bilinearly.

    Args:
        source: logits over the padded input of the network.
        out_size: (H, W) of the result.
        input_size: the part of the padded input, from the upper left corner, that the result shows; default: all.
        padded_size: what the source covers; default: `input_size`, or `out_size` where that is not given either.
        align_corners: as in `F.interpolate`; in both steps of the mapping.
    """

    def __init__(
        self,
        source: LogitMap,
        out_size: Size,
        input_size: Size | None = None,
        padded_size: Size | None = None,
        align_corners: bool = False,
    ) -> None:
        input_size = input_size or padded_size or out_size
        padded_size = padded_size or input_size
        self.source, self.shape = source, (source.shape[0], *out_size)
        _take_costs(self, source)
        self.rows, self.columns = (
            sampling_positions(*sizes, align_corners, self.device)
            for sizes in zip(out_size, input_size, padded_size, source.shape[1:])
        )

    def read(self, rows: slice, columns: slice) -> Tensor:
        """See `LogitMap`."""
        y_nodes, y = _nodes_and_places(self.rows[rows], self.source.shape[1])
        x_nodes, x = _nodes_and_places(self.columns[columns], self.source.shape[2])
        return bilinear(self.source.read(y_nodes, x_nodes).float(), y, x)


def change_pixelwise(
    outputs: Tensor | Sequence[LogitMap], change: Callable[[Tensor], Tensor]
) -> Tensor | list[LogitMap]:
    """Change what a dense head says of each place.

    Args:
        outputs: logits (B, K, h, w), or a map for each image.
        change: takes logits (..., K, h, w) and returns as many; no place may depend on another.
    """
    if isinstance(outputs, Tensor):
        return change(outputs)
    return [ChangedLogits(logits, change) for logits in outputs]


def label_map_in_parts(logits: LogitMap, rows: Tensor, columns: Tensor, rows_at_once: Halving) -> Tensor:
    """Label positions as `upsampled_argmax` does, from parts of the logits.

    Args:
        logits: of one image.
        rows: (H,) float64, ascending, in units of the logits' rows.
        columns: (W,) likewise.
        rows_at_once: rows of logits that fit into memory.

    Raises:
        ValueError: NaN or infinite logits.
    """
    labeling = _Labelling(logits, _Axis(rows, logits.shape[1]), _Axis(columns, logits.shape[2]))
    for x in _pieces(labeling.columns.num_cells, _columns_at_once(logits)):
        for y in _pieces(labeling.rows.num_cells, _rows_at_once(logits, len(x))):
            rows_at_once.run(partial(labeling.label, y, x), len(y))
    return labeling.labels


class _Axis:
    """Output positions along one axis of the logits, and the cells between its nodes that they lie in."""

    def __init__(self, positions: Tensor, num_nodes: int) -> None:
        self.positions, self.num_nodes = positions, num_nodes
        self.first = int(positions[0].floor())
        self.num_cells = int(positions[-1].floor()) - self.first + 1

    def part(self, start: int, stop: int) -> tuple[slice, slice, Tensor]:
        """Return which positions lie in cells `start` to `stop`, their nodes, and where they lie among these."""
        cells = torch.tensor([self.first + start, self.first + stop], dtype=torch.float64, device=self.positions.device)
        chosen = slice(*torch.searchsorted(self.positions, cells).tolist())
        nodes = slice(max(0, self.first + start), min(self.first + stop, self.num_nodes - 1) + 1)
        return chosen, nodes, self.positions[chosen] - nodes.start


class _Labelling:
    """A label map that is filled part by part."""

    def __init__(self, logits: LogitMap, rows: _Axis, columns: _Axis) -> None:
        self.logits, self.rows, self.columns = logits, rows, columns
        self.labels: Tensor | None = None

    def label(self, y: range, x: range, start: int, stop: int) -> None:
        """Fill in the pixels in the rows y[start:stop] and the columns x of cells."""
        below, y_nodes, y_positions = self.rows.part(y[start], y[stop - 1] + 1)
        across, x_nodes, x_positions = self.columns.part(x.start, x.stop)
        if not len(y_positions) or not len(x_positions):  # an output smaller than the grid leaves cells out
            return
        part = self.logits.read(y_nodes, x_nodes)
        if not part.sum(dtype=torch.float32).isfinite():
            raise ValueError("the logits are not finite (NaN or infinity): check the image and the weights")
        found = upsampled_argmax(part, y_positions, x_positions)
        if self.labels is None:
            self.labels = found.new_empty(len(self.rows.positions), len(self.columns.positions))
        self.labels[below, across] = found


def _columns_at_once(logits: LogitMap) -> int:
    """Return how many columns of cells may be read from top to bottom, by what that keeps in memory."""
    held_at_once = ELEMENTS_AT_ONCE // (logits.shape[0] * (logits.kept_rows + 2))
    return max(1, held_at_once - 1, logits.least_columns)


def _rows_at_once(logits: LogitMap, num_columns: int) -> int:
    """Return how many rows of cells may be read at once: few, where each keeps many others in memory."""
    in_memory = ELEMENTS_AT_ONCE // (logits.shape[0] * (num_columns + 1))
    return min(in_memory, logits.kept_rows // 4) if logits.kept_rows else in_memory


def _pieces(total: int, size: int) -> Iterator[range]:
    """Yield ranges of at most `size` (at least 1) that make up 0..total."""
    size = max(1, size)
    for start in range(0, total, size):
        yield range(start, min(total, start + size))


def _take_costs(target: LogitMap, source: LogitMap) -> None:
    target.device, target.num_kept = source.device, source.num_kept
    target.kept_rows, target.least_columns = source.kept_rows, source.least_columns


def _nodes_and_places(positions: Tensor, num_nodes: int) -> tuple[slice, Tensor]:
    """Return the nodes that positions on an axis lie between, and where they lie among these."""
    positions = positions.clamp(0, num_nodes - 1)
    nodes = slice(int(positions[0]), min(int(positions[-1]) + 1, num_nodes - 1) + 1)
    return nodes, positions - nodes.start


def _inside(part: slice, size: int) -> tuple[slice, Tensor]:
    """Return the part of an axis of `size` that a slice beyond its end reads, and for each place its place in there."""
    index = torch.arange(part.start, part.stop).clamp(max=size - 1)
    inner = slice(int(index[0]), int(index[-1]) + 1)
    return inner, index - inner.start
