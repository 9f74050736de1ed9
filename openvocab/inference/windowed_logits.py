"""The average of overlapping windows, computed for the rows that are asked for."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from openvocab.logit_map import LogitMap
from openvocab.structures import Size

WindowOutput = Tensor | LogitMap


class WindowedLogits(LogitMap):
    """The logits of one image, averaged over windows, of which only those that are being read exist.

    Args:
        size: (h, w) of the map.
        places: (row, column) of the upper left node of each window, row by row.
        compute: indices of windows -> their logits (K, n, m), which may be maps themselves.
        first: the logits of window 0.
        rows_of_windows: how many windows a node is covered by from above to below, at most.
    """

    def __init__(
        self,
        size: Size,
        places: Sequence[Size],
        compute: Callable[[Sequence[int]], list[WindowOutput]],
        first: WindowOutput,
        rows_of_windows: int,
    ) -> None:
        self.shape, self.device = (first.shape[0], *size), first.device
        self.window: Size = tuple(first.shape[1:])
        kept = first.numel() if isinstance(first, Tensor) else first.num_kept  # of each window
        self.kept_rows = math.ceil(rows_of_windows * kept / (first.shape[0] * self.window[1]))
        self.least_columns = 2 * self.window[1]  # in narrower parts most windows would be computed several times
        self.places, self.compute = list(places), compute
        self._outputs: dict[int, WindowOutput] = {0: first}

    def read(self, rows: slice, columns: slice) -> Tensor:
        """See `LogitMap`."""
        total = torch.zeros(self.shape[0], rows.stop - rows.start, columns.stop - columns.start, device=self.device)
        counts = total.new_zeros(total.shape[1:])
        for index, output in self._covering(rows, columns).items():
            (y, own_y), (x, own_x) = (
                _overlap(part, start, length)
                for part, start, length in zip((rows, columns), self.places[index], self.window)
            )
            logits = output[:, own_y, own_x] if isinstance(output, Tensor) else output.read(own_y, own_x)
            total[:, y, x] += logits
            counts[y, x] += 1
        return total.div_(counts)

    def _covering(self, rows: slice, columns: slice) -> dict[int, WindowOutput]:
        """Return the windows over a part, in their order; those that are not among them are forgotten."""
        wanted = [
            index
            for index, place in enumerate(self.places)
            if all(
                start < part.stop and part.start < start + length
                for part, start, length in zip((rows, columns), place, self.window)
            )
        ]
        self._outputs = {index: self._outputs[index] for index in wanted if index in self._outputs}
        missing = [index for index in wanted if index not in self._outputs]
        if missing:
            self._outputs.update(zip(missing, self.compute(missing), strict=True))
        return {index: self._outputs[index] for index in wanted}


def _overlap(part: slice, start: int, length: int) -> tuple[slice, slice]:
    """Return what `part` and a window at `start` share along an axis: places in the part, and places in the window."""
    low, high = max(part.start, start), min(part.stop, start + length)
    return slice(low - part.start, high - part.start), slice(low - start, high - start)
