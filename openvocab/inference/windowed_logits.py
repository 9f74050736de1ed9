"""The average of overlapping windows, computed for the requested rows only."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from openvocab.logit_map import LogitMap, TensorLogits
from openvocab.structures import Size

WindowOutput = Tensor | LogitMap


class WindowedLogits(LogitMap):
    """The logits of one image, averaged over windows; only windows that cover the part being read are in memory.

    Args:
        size: (h, w) of the map.
        positions: (row, column) of the top left cell of each window, row by row.
        compute: maps indices of windows to their logits (K, n, m), which may be maps themselves.
        first: the logits of window 0.
        rows_of_windows: maximum number of rows of windows that cover a cell.
    """

    def __init__(
        self,
        size: Size,
        positions: Sequence[Size],
        compute: Callable[[Sequence[int]], list[WindowOutput]],
        first: WindowOutput,
        rows_of_windows: int,
    ) -> None:
        num_classes, height, width = first.shape
        self.shape, self.device = (num_classes, *size), first.device
        self.window = (height, width)
        per_window = first.numel() if isinstance(first, Tensor) else first.num_kept  # elements in memory
        self.kept_rows = math.ceil(rows_of_windows * per_window / (first.shape[0] * self.window[1]))
        self.least_columns = 2 * self.window[1]  # most windows would be computed several times for narrower parts
        self.positions, self.compute = list(positions), compute
        self._outputs: dict[int, WindowOutput] = {0: first}

    def __reduce__(self) -> tuple[type[TensorLogits], tuple[Tensor]]:
        """Let a copy, pickled or not, hold the logits: what computes them is a model."""
        return TensorLogits, (self.whole(),)

    def read(self, rows: slice, columns: slice) -> Tensor:
        """Return the logits (K, rows, columns) of a part, float32; see `LogitMap.read`."""
        # float32 sum and count of the requested part only, (K, rows, columns).
        total = torch.zeros(self.shape[0], rows.stop - rows.start, columns.stop - columns.start, device=self.device)
        counts = total.new_zeros(total.shape[1:])
        for index, output in self._covering(rows, columns).items():
            (y, window_y), (x, window_x) = (
                _overlap(part, start, length)
                for part, start, length in zip((rows, columns), self.positions[index], self.window)
            )
            logits = output[:, window_y, window_x] if isinstance(output, Tensor) else output.read(window_y, window_x)
            total[:, y, x] += logits
            counts[y, x] += 1
        return total.div_(counts)

    def _covering(self, rows: slice, columns: slice) -> dict[int, WindowOutput]:
        """Return the logits of the windows that cover a part, in their order; drop those of all others."""
        covering = [
            index
            for index, position in enumerate(self.positions)
            if all(
                start < part.stop and part.start < start + length
                for part, start, length in zip((rows, columns), position, self.window)
            )
        ]
        # Parts are read from top to bottom, so windows above this part are not needed again.
        self._outputs = {index: self._outputs[index] for index in covering if index in self._outputs}
        missing = [index for index in covering if index not in self._outputs]
        if missing:
            self._outputs.update(zip(missing, self.compute(missing), strict=True))
        return {index: self._outputs[index] for index in covering}


def _overlap(part: slice, start: int, length: int) -> tuple[slice, slice]:
    """Return the overlap of `part` and a window at `start` along an axis: its slice of the part, and of the window."""
    low, high = max(part.start, start), min(part.stop, start + length)
    return slice(low - part.start, high - part.start), slice(low - start, high - start)
