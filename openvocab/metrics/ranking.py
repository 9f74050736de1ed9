"""Places in a ranking by score."""

from collections.abc import Sequence

import numpy as np


def best_rank(scores: np.ndarray, own: Sequence[int]) -> int:
    """Return how many of `scores` (K,) come before the best-placed of the entries `own`: 0 is the first place.

    Equal scores rank in order of position, as in `argmax`. With a NaN among the scores nothing is found: K.
    """
    if np.isnan(scores).any():
        return len(scores)
    best = scores[list(own)].max()
    first = min(index for index in own if scores[index] == best)
    return int((scores > best).sum() + (scores[:first] == best).sum())
