"""Read label maps that show each class in a color."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from openvocab.argument_checks import check_numbers
from openvocab.images.image_io import BadSample, read_image, read_lossless
from openvocab.structures import ignore_index


class ColorReader:
    """Turn the colors of a picture into class indices.

    Args:
        colors: red, green and blue in 0..255 of each class.
        ignored_colors: colors that mean unlabeled.

    Raises:
        ValueError: a color that is given twice.
    """

    def __init__(self, colors: Sequence[Sequence[int]], ignored_colors: Sequence[Sequence[int]] = ()) -> None:
        self.unlabeled = ignore_index(len(colors))
        given = [tuple(color) for color in (*colors, *ignored_colors)]
        if len(set(given)) < len(given):
            twice = next(color for color in given if given.count(color) > 1)
            raise ValueError(f"labels.colors: the color {twice} is given twice; each color belongs to one class")
        values = [*range(len(colors)), *[self.unlabeled] * len(ignored_colors)]
        packed = _packed(np.array(given, np.uint8).reshape(-1, 3))
        self._order = np.argsort(packed)
        self._packed = packed[self._order]
        self._values = np.array(values, np.uint8 if self.unlabeled < 256 else np.uint16)[self._order]

    def __call__(self, path: str | Path, max_pixels: int | None = None) -> np.ndarray:
        """Return class indices (H, W), uint8 or uint16.

        Raises:
            BadSample: a picture that cannot be read, is stored with loss, or has a color that is not of a class.
        """
        read_lossless(path, max_pixels)
        packed = _packed(read_image(path, max_pixels))  # (H, W)
        found = np.searchsorted(self._packed, packed).clip(max=len(self._packed) - 1)
        unknown = self._packed[found] != packed
        if unknown.any():
            colors = [_unpacked(color) for color in np.unique(packed[unknown])[:4].tolist()]
            raise BadSample(
                path,
                f"{int(unknown.sum())} pixels have colors that are not of a class: {', '.join(map(str, colors))}; add "
                "them to labels.colors, or to labels.ignored_colors",
            )
        return self._values[found]


def check_colors(argument: str, colors: Sequence[Sequence[int]]) -> None:
    """Check a list of colors.

    Raises:
        ValueError: an entry is not three whole numbers in 0..255.
    """
    if isinstance(colors, str) or not isinstance(colors, Sequence):
        raise ValueError(f"{argument}: expected a list of colors [red, green, blue], got {repr(colors)[:60]}")
    for color in colors:
        check_numbers(argument, color, 0, whole=True, count=3)
        if max(color) > 255:
            raise ValueError(f"{argument}: expected red, green and blue in 0..255, got {list(color)}")


def _packed(colors: np.ndarray) -> np.ndarray:
    """Return colors (..., 3) uint8 as one number each, (...) int64."""
    return colors.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])


def _unpacked(color: int) -> tuple[int, int, int]:
    return color >> 16, color >> 8 & 255, color & 255
