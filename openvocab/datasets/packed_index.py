"""A long list of small dicts in one buffer."""

import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np


class PackedIndex:
    """Read-only list of dicts, stored pickled in one array.

    Worker processes share its pages: a list of Python objects would be copied into each of them, page by page, as
    reference counts are written. Each access makes a fresh dict.
    """

    def __init__(self, items: Sequence[dict[str, Any]]) -> None:
        packed = [pickle.dumps(item, protocol=pickle.HIGHEST_PROTOCOL) for item in items]
        self._ends = np.cumsum([len(item) for item in packed], dtype=np.int64)
        self._buffer = np.frombuffer(b"".join(packed), np.uint8)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, position: int) -> dict[str, Any]:
        start = self._ends[position - 1] if position else 0
        return pickle.loads(memoryview(self._buffer[start : self._ends[position]]))
