"""Ranks by score."""

from collections.abc import Sequence

import numpy as np


def best_rank(scores: np.ndarray, targets: Sequence[int]) -> int:
    """Return the best rank of several targets.

    Args:
        scores: (K,). Equal ones rank in order of their positions, as in `argmax`.
        targets: their positions among the K.

    Returns:
        Number of entries that rank before the best target, 0 for the first rank; K if any score is NaN.
    """
    if np.isnan(scores).any():
        return len(scores)
    best = scores[list(targets)].max()
    first = min(index for index in targets if scores[index] == best)
    # Equal scores count if they come first, so that constant scores do not rank every target first.
    return int((scores > best).sum() + (scores[:first] == best).sum())
