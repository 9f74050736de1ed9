"""Complete-linkage clustering, cut at a height.

fcluster(linkage(squareform(distances), "complete"), height, "distance")  # of scipy, which is not needed for it
"""

import torch
from torch import Tensor


def complete_linkage(distances: Tensor, height: float) -> Tensor:
    """Join, closest first, clusters whose farthest members are at most `height` apart.

    Time grows with the cube of the number of things; a thousand take seconds.

    Args:
        distances: (N, N), symmetric.

    Returns:
        (N,) int64, for each thing the lowest index in its cluster.
    """
    farthest = distances.double().clone().fill_diagonal_(torch.inf)
    cluster = torch.arange(len(farthest), device=farthest.device)
    for _ in range(len(farthest) - 1):
        closest = int(farthest.argmin())
        kept, joined = sorted(divmod(closest, len(farthest)))
        if farthest[kept, joined] > height:
            break
        farthest[kept] = farthest[:, kept] = torch.maximum(farthest[kept], farthest[joined])
        farthest[joined] = farthest[:, joined] = torch.inf
        cluster[cluster == joined] = kept
    return cluster
