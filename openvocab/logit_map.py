"""Logits that are computed part by part: label maps of any size and vocabulary in bounded memory."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from openvocab.ops.label_upsampling import bilinear, sampling_positions, upsampled_argmax
from openvocab.process.memory_fallback import Halving
from openvocab.structures import Size, known

LOGITS_IN_MEMORY = 1 << 27
"""Outputs with more elements than this (512 MB) are computed part by part, whatever memory is free."""
ELEMENTS_AT_ONCE = 1 << 25
"""Logits per part: 128 MB."""


class LogitMap:
    """The logits (K, h, w) of one image, part by part."""

    shape: tuple[int, int, int]
    """K, h, w."""
    device: torch.device
    """Device of the parts."""
    num_kept: int = 0
    """Elements that the map holds in memory to compute its logits from."""
    kept_rows: int = 0
    """Further rows of logits that stay in memory while columns are read, until the last of their rows is read."""
    least_columns: int = 1
    """Smallest number of columns that is worth reading together."""

    def read(self, rows: slice, columns: slice) -> Tensor:
        """Return the logits of a part. Parts are read from top to bottom, one group of columns after the other.

        Args:
            rows, columns: n rows and m columns within the map, with start and stop.

        Returns:
            (K, n, m) float32.
        """
        raise NotImplementedError

    @property
    def num_elements(self) -> int:
        """Number of logits in the map."""
        num_classes, height, width = self.shape
        return num_classes * height * width

    def whole(self) -> Tensor:
        """Return all logits, (K, h, w)."""
        return self.read(slice(0, self.shape[1]), slice(0, self.shape[2]))


class TensorLogits(LogitMap):
    """Logits that are a tensor (K, h, w)."""

    def __init__(self, logits: Tensor) -> None:
        num_classes, height, width = logits.shape
        self.logits, self.shape, self.device = logits, (num_classes, height, width), logits.device

    def read(self, rows: slice, columns: slice) -> Tensor:
        """Return a part (K, n, m) in the type of the tensor; see `LogitMap`."""
        return self.logits[:, rows, columns]


class ComputedLogits(LogitMap):
    """Logits that a function computes.

    Args:
        shape, device: see `LogitMap`.
        compute: (classes, rows, columns) -> logits (k, n, m).
        classes_at_once: how many classes to compute at once; None if a class depends on the others, and all have to be.
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

    def __reduce__(self) -> tuple[type[TensorLogits], tuple[Tensor]]:
        """Let a copy, pickled or not, hold the logits: what computes them is a part of a model."""
        return TensorLogits, (self.whole(),)

    def read(self, rows: slice, columns: slice) -> Tensor:
        """Return the logits (K, n, m) float32 of a part; see `LogitMap`."""
        if self.classes_at_once is None:
            return self.compute(slice(0, self.shape[0]), rows, columns).float()
        parts = self.classes_at_once.run(
            lambda start, stop: self.compute(slice(start, stop), rows, columns).float(), self.shape[0]
        )
        return parts[0] if len(parts) == 1 else torch.cat(parts)


class ChangedLogits(LogitMap):
    """Another map's logits, changed at each pixel independently of the others.

    Args:
        source: the other map.
        change: maps logits (K', n, m) to logits (K, n, m).
        num_classes: K; default: K', that of the source.
    """

    def __init__(self, source: LogitMap, change: Callable[[Tensor], Tensor], num_classes: int | None = None) -> None:
        self.source, self.change = source, change
        self.shape = (num_classes or source.shape[0], *source.shape[1:])
        _take_costs(self, source)

    def read(self, rows: slice, columns: slice) -> Tensor:
        """Return the changed logits (K, n, m) of a part; see `LogitMap`."""
        return self.change(self.source.read(rows, columns))


class ExtendedLogits(LogitMap):
    """Another map's logits, whose last row and column are repeated up to `size` (h, w)."""

    def __init__(self, source: LogitMap, size: Size) -> None:
        self.source = source
        self.shape = (source.shape[0], *size)
        _take_costs(self, source)

    def read(self, rows: slice, columns: slice) -> Tensor:
        """Return the logits (K, n, m) of a part, which may lie past the end of the source; see `LogitMap`."""
        _, height, width = self.source.shape
        (rows, y), (columns, x) = _inside(rows, height), _inside(columns, width)
        return self.source.read(rows, columns)[:, y][:, :, x]  # (K, n, m)


class ResizedLogits(LogitMap):
    """Another map's logits, resized bilinearly.

    Args:
        source: logits over the padded input of the network.
        out_size: (H, W) of the result.
        input_size: the part of the padded input, from the upper left corner, that the result shows; default: all.
        padded_size: what the source covers; default: `input_size`, or `out_size` if that is not given either.
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
        """Return the logits (K, n, m) float32 of n rows and m columns of the result; see `LogitMap`."""
        y_nodes, y = _nodes_around(self.rows[rows], self.source.shape[1])
        x_nodes, x = _nodes_around(self.columns[columns], self.source.shape[2])
        return bilinear(self.source.read(y_nodes, x_nodes).float(), y, x)


def change_pixelwise(
    outputs: Tensor | Sequence[LogitMap], change: Callable[[Tensor], Tensor]
) -> Tensor | list[LogitMap]:
    """Change the logits of a dense head at each pixel.

    Args:
        outputs: logits (B, K, h, w), or a map per image.
        change: maps logits (..., K, h, w) to logits of the same shape; pixels must not depend on each other.

    Returns:
        Logits (B, K, h, w), or a map per image.
    """
    if isinstance(outputs, Tensor):
        return change(outputs)
    return [ChangedLogits(logits, change) for logits in outputs]


def label_map_in_parts(logits: LogitMap, rows: Tensor, columns: Tensor, rows_at_once: Halving) -> Tensor:
    """Label positions as `upsampled_argmax` does, from parts of the logits.

    Args:
        logits: logits of one image.
        rows: (H,) float64, ascending, in units of the logits' rows.
        columns: (W,) float64, ascending, in units of the logits' columns.
        rows_at_once: rows of logits that fit into memory.

    Returns:
        (H, W), see `upsampled_argmax`.

    Raises:
        ValueError: NaN or infinite logits.
    """
    labeling = _Labeling(logits, _Axis(rows, logits.shape[1]), _Axis(columns, logits.shape[2]))
    # columns outside: `LogitMap.read` wants each group of columns from top to bottom
    for x in _pieces(labeling.columns.num_cells, _columns_at_once(logits)):
        for y in _pieces(labeling.rows.num_cells, _rows_at_once(logits, len(x))):
            rows_at_once.run(partial(labeling.label, y, x), len(y))
    return known(labeling.labels, "a label map of the logits")


class _Axis:
    """Output positions along one axis of the logits, and the cells between the nodes that contain them."""

    def __init__(self, positions: Tensor, num_nodes: int) -> None:
        self.positions, self.num_nodes = positions, num_nodes
        self.first = int(positions[0].floor())
        self.num_cells = int(positions[-1].floor()) - self.first + 1

    def part(self, start: int, stop: int) -> tuple[slice, slice, Tensor]:
        """Return the indices of the positions in cells `start` to `stop`, the nodes of these cells, and the positions.

        The positions (n,) are in units of nodes, and relative to the first of these nodes.
        """
        cells = torch.tensor([self.first + start, self.first + stop], dtype=torch.float64, device=self.positions.device)
        index = slice(*torch.searchsorted(self.positions, cells).tolist())
        # cells before the first node and after the last one have only the border node
        nodes = slice(max(0, self.first + start), min(self.first + stop, self.num_nodes - 1) + 1)
        return index, nodes, self.positions[index] - nodes.start


class _Labeling:
    """A label map that is filled part by part."""

    def __init__(self, logits: LogitMap, rows: _Axis, columns: _Axis) -> None:
        self.logits, self.rows, self.columns = logits, rows, columns
        self.labels: Tensor | None = None

    def label(self, y: range, x: range, start: int, stop: int) -> None:
        """Label the pixels in the rows y[start:stop] and the columns x of cells."""
        rows, y_nodes, y_positions = self.rows.part(y[start], y[stop - 1] + 1)
        columns, x_nodes, x_positions = self.columns.part(x.start, x.stop)
        if not len(y_positions) or not len(x_positions):  # an output smaller than the grid has empty cells
            return
        part = self.logits.read(y_nodes, x_nodes)
        # a NaN or an infinity makes the sum NaN or infinite; in float32, since a sum of half precision may overflow
        if not part.sum(dtype=torch.float32).isfinite():
            raise ValueError("the logits are not finite (NaN or infinity): check the image and the weights")
        labels = upsampled_argmax(part, y_positions, x_positions)
        if self.labels is None:
            # the type of the labels depends on the classes, and is known with the first part
            self.labels = labels.new_empty(len(self.rows.positions), len(self.columns.positions))
        self.labels[rows, columns] = labels


def _columns_at_once(logits: LogitMap) -> int:
    """Return how many columns of cells may be read from top to bottom, given the rows that stay in memory meanwhile."""
    in_memory = ELEMENTS_AT_ONCE // (logits.shape[0] * (logits.kept_rows + 2))
    return max(1, in_memory - 1, logits.least_columns)


def _rows_at_once(logits: LogitMap, num_columns: int) -> int:
    """Return how many rows of cells may be read at once: few, if many further rows stay in memory."""
    in_memory = ELEMENTS_AT_ONCE // (logits.shape[0] * (num_columns + 1))
    return min(in_memory, logits.kept_rows // 4) if logits.kept_rows else in_memory


def _pieces(total: int, size: int) -> Iterator[range]:
    """Yield ranges of at most `size` (at least 1) that cover 0 to `total`."""
    size = max(1, size)
    for start in range(0, total, size):
        yield range(start, min(total, start + size))


def _take_costs(target: LogitMap, source: LogitMap) -> None:
    """Give a map the device and the memory costs of the map that it reads."""
    target.device, target.num_kept = source.device, source.num_kept
    target.kept_rows, target.least_columns = source.kept_rows, source.least_columns


def _nodes_around(positions: Tensor, num_nodes: int) -> tuple[slice, Tensor]:
    """Return the nodes around positions (n,) on an axis, and the positions relative to the first of them."""
    positions = positions.clamp(0, num_nodes - 1)
    nodes = slice(int(positions[0]), min(int(positions[-1]) + 1, num_nodes - 1) + 1)
    return nodes, positions - nodes.start


def _inside(part: slice, size: int) -> tuple[slice, Tensor]:
    """Return what a slice past the end of an axis of `size` reads, and the index (n,) of each element in there."""
    index = torch.arange(part.start, part.stop).clamp(max=size - 1)  # (n,)
    inner = slice(int(index[0]), int(index[-1]) + 1)
    return inner, index - inner.start
