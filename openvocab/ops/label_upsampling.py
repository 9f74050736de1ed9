"""Labels at full size, directly from low-resolution logits.

    F.interpolate(logits, size, mode="bilinear").argmax(1)  # for any positions of the rows and columns

without the (K, H, W) map in between. Between four neighboring nodes of the grid (a *cell*) a bilinear value is a
convex combination of the values at the four corners. A class that is below another class at all four corners is
therefore below it in the whole cell, and cannot win there. Of a thousand classes only a handful per cell remain, and
only these are interpolated.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from openvocab.ops.leading_argmax import leading_argmax_

STRIP_ELEMENTS = {"cpu": 1 << 18, "cuda": 1 << 24}
"""Output pixels per strip of rows of cells, with up to four times as many logits: what fits the cache of a CPU, and
what fills a GPU."""
BLOCK_ELEMENTS = {"cpu": 1 << 19, "cuda": 1 << 26}
"""Values of all classes that are interpolated at once if no class is pruned."""
SEARCH = 8
"""Cost of testing whether a class can win in a cell, in interpolated pixels; measured. In cells of fewer pixels all
classes are interpolated instead."""
PAIR_OVERHEAD = 120
"""Cost of finding and sorting one (cell, class) candidate, in interpolated pixels; measured."""


@dataclass
class AxisSampling:
    """Where the output positions of one axis lie between the nodes of the grid.

    Cell i spans nodes[i] to nodes[i + 1]. Cells have up to `s` positions; those with fewer are padded.
    """

    nodes: Tensor
    """(n + 1,) indices into the axis; border nodes are repeated."""
    fraction: Tensor
    """(n, s) float32, 0 at the cell's first node, 1 at its second."""
    valid: Tensor
    """(n, s) bool, False for padding."""

    @classmethod
    def between(cls, positions: Tensor, grid_size: int) -> "AxisSampling":
        """Assign ascending positions (N,) float64, in units of the grid's nodes, to cells."""
        device = positions.device
        cell = positions.floor().long()
        first, last = int(cell[0]), int(cell[-1])
        # a position past the border lies between two copies of the border node, and takes its value
        nodes = torch.arange(first, last + 2, device=device).clamp(0, grid_size - 1)
        counts = torch.bincount(cell - first)  # (n,)
        slot = torch.arange(int(counts.max()), device=device)  # (s,)
        valid = slot < counts[:, None]  # (n, s)
        output = (counts.cumsum(0) - counts)[:, None] + slot  # (n, s) index of the output position
        # indices of padding may lie past the end; whatever they select is dropped by `valid`
        fraction = (
            positions[output.clamp(max=len(positions) - 1)] - torch.arange(first, last + 1, device=device)[:, None]
        )
        return cls(nodes, fraction.clamp(0, 1).float(), valid)

    def part(self, start: int, stop: int) -> "AxisSampling":
        """Return cells `start` to `stop`."""
        return AxisSampling(self.nodes[start : stop + 1], self.fraction[start:stop], self.valid[start:stop])


def sampling_positions(
    out: int, visible: int, covered: int, grid: int, align_corners: bool, device: torch.device
) -> Tensor:
    """Return where the pixels of an output axis lie on the grid's axis, (out,) float64, in units of nodes.

    Args:
        out: pixels of the output.
        visible: pixels of the network's input that the output shows (without padding).
        covered: pixels of the network's input that the grid covers (with padding).
        grid: nodes of the grid.
        align_corners: whether the first and last nodes are at the first and last pixels, as in `F.interpolate`.
        device: device of the result.
    """
    pixels = torch.arange(out, dtype=torch.float64, device=device)
    if align_corners:
        return pixels * ((visible - 1) / max(out - 1, 1)) * ((grid - 1) / max(covered - 1, 1))
    # centers of pixels are mapped to centers, and nodes are at the centers of their cells
    return (pixels + 0.5) * (visible / out) * (grid / covered) - 0.5


def bilinear(values: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Interpolate `values` at every (row, column).

    Args:
        values: (K, h, w) floating point.
        rows: (H,) float64 in 0..h - 1.
        columns: (W,) float64 in 0..w - 1.

    Returns:
        (K, H, W).
    """
    # (K, h, W), then (K, H, W)
    return _lerp(_lerp(values, columns, 2), rows, 1)


def _lerp(values: Tensor, positions: Tensor, axis: int) -> Tensor:
    """Interpolate `values` at positions (n,) of one axis, which gets length n."""
    low = positions.floor().long()
    high = (low + 1).clamp(max=values.shape[axis] - 1)
    shape = [1] * values.ndim
    shape[axis] = -1
    fraction = (positions - low).to(values.dtype).view(shape)
    return torch.lerp(values.index_select(axis, low), values.index_select(axis, high), fraction)


def upsampled_argmax(logits: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Interpolate `logits` at every (row, column) and return the class of the largest value.

    Args:
        logits: (K, h, w) floating point, finite.
        rows: (H,) float64, ascending, in units of the grid's nodes; positions beyond the border take its value.
        columns: (W,) likewise.

    Returns:
        (H, W) uint8 for up to 255 classes, int16 up to 32767, else int32. The lower one of classes with equal values.
    """
    num_classes, height, width = logits.shape
    across = AxisSampling.between(columns, width)
    down = AxisSampling.between(rows, height)
    dtype = _label_dtype(num_classes)
    strips, prune = [], down.fraction.shape[1] * across.fraction.shape[1] > SEARCH
    step = _strip_height(num_classes, down, across, prune)
    for start in range(0, len(down.fraction), step):
        part = down.part(start, min(start + step, len(down.fraction)))
        # float32: rounding would make the values of some classes equal, and the lower one would win
        nodes = _select(_select(logits, part.nodes, 1), across.nodes, 2).float()  # (K, n + 1, m + 1)
        blocks, prune = _strip_labels(nodes, part.fraction, across.fraction, dtype, prune)
        strips.append(_image(blocks))
    # without the padding of cells that have fewer pixels than others: (H, W)
    return torch.cat(strips)[down.valid.flatten()][:, across.valid.flatten()]


def _strip_height(num_classes: int, down: AxisSampling, across: AxisSampling, prune: bool) -> int:
    """Return the number of rows of cells per strip."""
    device = down.fraction.device.type
    per_row = down.fraction.shape[1] * across.fraction.numel()
    if not prune:
        return max(1, BLOCK_ELEMENTS.get(device, BLOCK_ELEMENTS["cuda"]) // (num_classes * per_row))
    budget = STRIP_ELEMENTS.get(device, STRIP_ELEMENTS["cuda"])
    return max(1, min(budget // per_row, 4 * budget // (num_classes * len(across.fraction))))


def _select(values: Tensor, nodes: Tensor, axis: int) -> Tensor:
    """Take consecutive `nodes` (n,) of an axis, of which those at the border may repeat; faster than `index_select`."""
    first, last = int(nodes[0]), int(nodes[-1])
    inner = values.narrow(axis, first, last - first + 1)
    before = int((nodes == first).sum()) - 1
    after = len(nodes) - before - inner.shape[axis]
    if not before and not after:
        return inner
    border = inner.narrow(axis, 0, 1), inner.narrow(axis, -1, 1)
    return torch.cat([border[0]] * before + [inner] + [border[1]] * after, dim=axis)


def _label_dtype(num_classes: int) -> torch.dtype:
    if num_classes <= 255:
        return torch.uint8
    return torch.int16 if num_classes <= 32767 else torch.int32


def _strip_labels(nodes: Tensor, down: Tensor, across: Tensor, dtype: torch.dtype, prune: bool) -> tuple[Tensor, bool]:
    """Label a strip of cells in the cheapest way.

    Args:
        nodes: (K, n + 1, m + 1) values at the corners of n x m cells.
        down, across: (n, s) and (m, t) positions of the output pixels within the cells, 0..1.
        dtype: dtype of the labels.
        prune: whether to determine which classes can win.

    Returns:
        Labels (s, t, n, m), and whether to prune the next strip, too: no longer once most classes could win somewhere
        in a strip.
    """
    pixels = down.shape[1] * across.shape[1]
    if not prune:
        return _dense_labels(nodes, down, across, dtype), False
    label, cell = _can_win(nodes).flatten(1).nonzero().unbind(1)  # (P,) each, ascending in label
    active = torch.bincount(label, minlength=len(nodes)).nonzero().flatten()
    # the cheaper way: every class that can win somewhere, in all cells; or each candidate, in its own cell
    if len(label) * (pixels + PAIR_OVERHEAD) > len(active) * down.numel() * across.numel():
        labels = active.to(dtype)[_dense_labels(nodes[active], down, across, torch.int64)]
        return labels, len(active) < 0.75 * len(nodes)
    return _sparse_labels(nodes, label, cell, down, across, dtype), True


def _can_win(nodes: Tensor) -> Tensor:
    """Return whether a class is, at some corner of the cell, not below the class that is best there on average.

    Args:
        nodes: (K, n + 1, m + 1).

    Returns:
        (K, n, m) bool.
    """
    # four times the mean of the corners, which has the same argmax
    pairs = nodes[:, :-1] + nodes[:, 1:]
    average = pairs[..., :-1] + pairs[..., 1:]  # (K, n, m)
    rival = leading_argmax_(average.flatten(1)).view(1, *average.shape[1:])  # (1, n, m)
    # differences and maxima of floats are faster on a CPU than comparisons to booleans
    first, *others = _corners(nodes)
    lead = first - first.gather(0, rival)  # (K, n, m)
    for corner in others:
        torch.maximum(lead, corner - corner.gather(0, rival), out=lead)
    return lead >= 0


def _corners(nodes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return views of the cells' upper left, upper right, lower left and lower right nodes, (..., n, m) each."""
    return nodes[..., :-1, :-1], nodes[..., :-1, 1:], nodes[..., 1:, :-1], nodes[..., 1:, 1:]


def _dense_labels(nodes: Tensor, down: Tensor, across: Tensor, dtype: torch.dtype) -> Tensor:
    """Compare all classes in every cell, a block of cells at a time (whole rows of them if they fit); (s, t, n, m)."""
    budget = BLOCK_ELEMENTS.get(nodes.device.type, BLOCK_ELEMENTS["cuda"])
    column = len(nodes) * down.shape[1] * across.shape[1]  # values in one cell
    # either several whole rows of cells, or a part of one row
    height, width = max(1, budget // (column * len(across))), max(1, budget // column)
    # allocated once, for the largest block
    values = nodes.new_empty(column * min(height, len(down)) * min(width, len(across)))
    strips = []
    for top in range(0, len(down), height):
        rows, part = nodes[:, top : top + height + 1], down[top : top + height]
        blocks = [
            _block_labels(rows[..., left : left + width + 1], part, across[left : left + width], values)
            for left in range(0, len(across), width)
        ]
        strips.append(torch.cat(blocks, dim=3).to(dtype))
    return torch.cat(strips, dim=2)


def _block_labels(nodes: Tensor, down: Tensor, across: Tensor, values: Tensor) -> Tensor:
    """Compare all classes in a block of cells at once; (s, t, n, m). `values` is a buffer (K * s * t * n * m,)."""
    shape = (len(nodes), down.shape[1], across.shape[1], len(down), len(across))  # (K, s, t, n, m)
    rows = torch.lerp(nodes[:, None, :-1], nodes[:, None, 1:], down.T[:, :, None])  # (K, s, n, m + 1)
    left, slope = rows[..., :-1], rows[..., 1:] - rows[..., :-1]  # (K, s, n, m)
    values = values[: math.prod(shape)].view(shape)
    # (K, s, 1, n, m) + (K, s, 1, n, m) * (t, 1, m)
    torch.addcmul(left[:, :, None], slope[:, :, None], across.T[:, None], out=values)
    return leading_argmax_(values.flatten(1)).view(shape[1:])


def _sparse_labels(
    nodes: Tensor, label: Tensor, cell: Tensor, down: Tensor, across: Tensor, dtype: torch.dtype
) -> Tensor:
    """Compare only the candidates of every cell.

    Cells are sorted by falling number of candidates, so that the cells with a j-th candidate are always the first ones
    and each round is one contiguous block.

    Args:
        nodes, down, across, dtype: see `_strip_labels`.
        label, cell: (P,) class and cell of each candidate, ascending in label.

    Returns:
        (s, t, n, m).
    """
    # stable: the candidates of a cell stay in ascending order of their classes
    by_cell = cell.sort(stable=True)
    label, cell = label[by_cell.indices], by_cell.values
    counts = torch.bincount(cell, minlength=len(down) * len(across))  # (N,)
    rank = torch.arange(len(cell), device=cell.device) - (counts.cumsum(0) - counts)[cell]  # (P,) j of its cell
    cells = counts.argsort(descending=True)  # (N,)
    sizes = torch.bincount(rank)  # how many cells have a j-th candidate
    position = (sizes.cumsum(0) - sizes)[rank] + cells.argsort()[cell]  # round by round, cells in order
    sorted_label, sorted_cell = torch.empty_like(label), torch.empty_like(cell)
    sorted_label[position], sorted_cell[position] = label, cell

    blocks = _Blocks(down, across, cells, dtype)
    values = _corner_values(nodes, sorted_label, sorted_cell)  # 4 x (P,)
    table = zip(*(column.split(sizes.tolist()) for column in (*values, sorted_label.to(dtype))))
    for *corners, chosen in table:
        blocks.offer(corners, chosen)
    result = torch.empty_like(blocks.label)
    # from the order of counts back to that of the grid
    result[..., cells] = blocks.label
    return result.unflatten(2, (len(down), len(across)))


def _corner_values(nodes: Tensor, label: Tensor, cell: Tensor) -> list[Tensor]:
    """Return the values of class `label` (P,) at the four corners of `cell` (P,), (P,) each."""
    _, height, width = nodes.shape
    # a row of `width` nodes has `width - 1` cells
    row, column = cell // (width - 1), cell % (width - 1)
    first = (label * height + row) * width + column
    flat = nodes.flatten()
    return [flat[first + offset] for offset in (0, 1, width, width + 1)]


class _Blocks:
    """The pixels of N cells, with cells in the last dimension, and the best class of each pixel so far."""

    def __init__(self, down: Tensor, across: Tensor, cells: Tensor, dtype: torch.dtype) -> None:
        self.down = down.T[:, cells // len(across)]  # (s, N)
        self.across = across.T[:, cells % len(across)]  # (t, N)
        shape = (down.shape[1], across.shape[1], len(cells))
        self.best = torch.full(shape, -math.inf, device=down.device)
        self.label = torch.zeros(shape, dtype=dtype, device=down.device)

    def offer(self, corners: Sequence[Tensor], label: Tensor) -> None:
        """Let one class per cell compete in the first n cells.

        Args:
            corners: four (n,) values at the upper left, upper right, lower left and lower right node.
            label: (n,) the classes.
        """
        count = len(corners[0])
        left = torch.lerp(corners[0], corners[2], self.down[:, :count])  # (s, n)
        slope = torch.lerp(corners[1], corners[3], self.down[:, :count]).sub_(left)  # (s, n)
        value = torch.addcmul(left[:, None], slope[:, None], self.across[:, :count])  # (s, t, n)
        best, chosen = self.best[..., :count], self.label[..., :count]
        # strictly above: of equal values the earlier class, which is the lower one, stays
        torch.where(value > best, label, chosen, out=chosen)
        torch.maximum(best, value, out=best)


def _image(blocks: Tensor) -> Tensor:
    """Turn (s, t, n, m), the pixels of cells, into the image (n * s, m * t)."""
    # (n, s, m, t) to (n * s, m * t)
    return blocks.permute(2, 0, 3, 1).flatten(2, 3).flatten(0, 1)
