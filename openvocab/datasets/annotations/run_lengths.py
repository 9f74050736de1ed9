"""Check COCO's compressed run lengths without decoding the mask."""

import numpy as np

_MORE, _NEGATIVE = 0x20, 0x10


def pixels_of_runs(counts: bytes) -> int:
    """Return how many pixels the runs of a compressed RLE cover: its mask's height times width, if it is valid.

    pycocotools' format: five bits per character, the lowest first; from the fourth run on, a number is the difference
    to the run two before.

    Raises:
        ValueError: not of this format, or runs of negative length.
    """
    values = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    if not len(values) or values.min() < 0 or values.max() > 63 or values[-1] & _MORE:
        raise ValueError("segmentation: malformed counts of a compressed RLE")
    last = values & _MORE == 0  # (C,) whether a character ends a number
    number = np.concatenate([[0], np.cumsum(last)[:-1]])  # (C,) index of the number that a character belongs to
    first = np.concatenate([[0], np.flatnonzero(last)[:-1] + 1])  # (N,) first character of each number
    shift = 5 * (np.arange(len(values)) - first[number])
    if shift.max() > 55:  # beyond int64, where the sum would wrap
        raise ValueError("segmentation: malformed counts of a compressed RLE")
    steps = np.zeros(last.sum(), np.int64)
    # Unlike steps[number] += ..., it adds all characters of a number.
    np.add.at(steps, number, (values & 0x1F) << shift)
    # the sign bit of the last character is repeated in all higher bits
    steps -= np.where(values[last] & _NEGATIVE, 1 << (shift[last] + 5), 0)
    runs = steps.copy()  # (N,)
    # Undo the differences to the run two before, separately for odd and even runs; run 0 stands alone.
    runs[1::2], runs[2::2] = np.cumsum(steps[1::2]), np.cumsum(steps[2::2])
    if runs.min() < 0:
        raise ValueError("segmentation: runs of negative length in a compressed RLE")
    return int(runs.sum())
