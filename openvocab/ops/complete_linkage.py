"""Complete-linkage clustering, cut at a height.

    fcluster(linkage(squareform(distances), "complete"), height, "distance")  # of SciPy

without SciPy, and on the device of the distances.
"""

import torch
from torch import Tensor


def complete_linkage(distances: Tensor, height: float) -> Tensor:
    """Merge clusters, closest first, as long as their farthest members are at most `height` apart.

    The time grows with the cube of N; a thousand points take seconds.

    Args:
        distances: (N, N), symmetric.
        height: largest distance within a cluster.

    Returns:
        (N,) int64, for each point the lowest index in its cluster.
    """
    # farthest[i, j]: between the members of clusters i and j; infinite on the diagonal, which is no pair
    farthest = distances.double().clone().fill_diagonal_(torch.inf)
    cluster = torch.arange(len(farthest), device=farthest.device)
    for _ in range(len(farthest) - 1):
        closest = int(farthest.argmin())
        first, second = sorted(divmod(closest, len(farthest)))
        if farthest[first, second] > height:
            break
        # the farthest members of a union are those of either part
        # the second cluster becomes part of the first, and is never the closest again
        farthest[first] = farthest[:, first] = torch.maximum(farthest[first], farthest[second])
        farthest[second] = farthest[:, second] = torch.inf
        cluster[cluster == second] = first
    return cluster
