"""Map the ids in label files to class indices."""

from collections.abc import Collection, Mapping

import cv2
import numpy as np

from openvocab.images.image_io import BadSample
from openvocab.structures import IGNORE_INDEX, WIDE_IGNORE_INDEX, ignore_index

NUM_IDS = 65536


class LabelTable:
    """Look-up table from label ids to class indices; an id without a class is an error unless it is ignored.

    Args:
        class_of_id: class index of each raw id; None for a class that is dropped, whose pixels are ignored.
        ignored_ids: raw ids that carry no label.
        num_classes: K. Up to 254 classes give uint8 maps (255 = ignored), more give uint16 maps (65535 = ignored).
        ignore_unlisted: ignore all other ids instead of rejecting them.
        advice: which arguments of the dataset assign ids, for messages.

    Raises:
        ValueError: more than 65,534 classes, an id or class out of range, or an id that is both a class and ignored.
    """

    def __init__(
        self,
        class_of_id: Mapping[int, int | None],
        ignored_ids: Collection[int],
        num_classes: int,
        ignore_unlisted: bool,
        advice: str = "",
    ) -> None:
        if ignore_index(num_classes) > WIDE_IGNORE_INDEX:
            raise ValueError(f"label files can hold at most {WIDE_IGNORE_INDEX - 1} classes, got {num_classes}")
        self.num_classes, self.advice = num_classes, advice
        self.dtype = np.uint8 if ignore_index(num_classes) == IGNORE_INDEX else np.uint16
        # Entries are shifted by one, 0 = ignored and K + 1 = unknown: one maximum finds unknown ids, and subtracting 1
        # wraps 0 to the ignored value of the unsigned type.
        table = np.full(NUM_IDS, 0 if ignore_unlisted else num_classes + 1, self.dtype)
        for raw_id, class_index in class_of_id.items():
            if not (0 <= raw_id < NUM_IDS and 0 <= (class_index or 0) < num_classes):
                raise ValueError(f"label id {raw_id} -> class {class_index}: expected ids below {NUM_IDS} and classes "
                                 f"below {num_classes}")  # fmt: skip
            table[raw_id] = 0 if class_index is None else class_index + 1
        for raw_id in ignored_ids:
            if not 0 <= raw_id < NUM_IDS:
                raise ValueError(f"label id {raw_id} -> ignored: expected ids below {NUM_IDS}")
            if raw_id in class_of_id:
                raise ValueError(f"label id {raw_id} is a class and ignored too{self._advice}")
            table[raw_id] = 0
        self._table = table
        self._byte_table = table[:256]
        self._shift = self._plain_shift()

    def __call__(self, ids: np.ndarray, path: str) -> np.ndarray:
        """Return the class indices (H, W) of raw `ids` (H, W) uint8 or uint16.

        Raises:
            BadSample: an id that is neither a class nor ignored; names the file and the ids.
        """
        shifted = self._look_up(ids)
        if shifted.max() > self.num_classes:
            self._raise_unknown(ids, shifted, path)
        shifted -= 1
        return shifted

    def classes_of(self, ids: np.ndarray) -> np.ndarray:
        """Return the class index of each of (N,) raw ids, int64; -1 for an ignored id, K for an unknown one."""
        return self._table[ids].astype(np.int64) - 1

    @property
    def _advice(self) -> str:
        return f"; {self.advice}" if self.advice else ""

    def _look_up(self, ids: np.ndarray) -> np.ndarray:
        """Return the table's entries for `ids` (H, W); by one addition, which is much faster, if that is equivalent."""
        if ids.dtype != np.uint8 or self.dtype != np.uint8:
            return self._table[ids]
        if self._shift is not None:
            shifted = ids + self._shift
            if shifted.max() <= self.num_classes:
                return shifted
        return cv2.LUT(ids, self._byte_table)

    def _plain_shift(self) -> np.uint8 | None:
        """Return the number that turns byte ids into their entries by addition; None if there is no such number."""
        for shift in (1, 0):
            added = np.arange(256).astype(np.uint8) + np.uint8(shift)
            if np.array_equal(self._byte_table[added <= self.num_classes], added[added <= self.num_classes]):
                return np.uint8(shift)
        return None

    def _raise_unknown(self, ids: np.ndarray, shifted: np.ndarray, path: str) -> None:
        unknown = np.unique(ids[shifted > self.num_classes]).tolist()
        listed = ", ".join(map(str, unknown[:10])) + (", ..." if len(unknown) > 10 else "")
        raise BadSample(path, f"label ids outside the {self.num_classes} classes: {listed}{self._advice}")
