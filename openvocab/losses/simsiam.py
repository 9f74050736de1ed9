"""SimSiam: one view's prediction against the other view, without negatives."""

import torch
import torch.nn.functional as F
from torch import Tensor

from openvocab.losses.chunked_sum import at_least_float32


def simsiam(first_prediction: Tensor, second_prediction: Tensor, first_target: Tensor, second_target: Tensor) -> Tensor:
    """Return the negative cosine between each view's prediction and the other view's target, averaged over both views.

    Targets get no gradient, which keeps the solution from collapsing. In float32 even under autocast. Images are not
    compared with each other, so that each rank averages its own.

    Args:
        first_prediction, second_prediction: (B, D) predictor outputs of the two views.
        first_target, second_target: (B, D) projector outputs of the two views.

    Returns:
        () between -1 (all views agree) and 1. x-clip writes it as 2 - 2 cos: twice the gradient.

    Raises:
        ValueError: shapes that differ.

    Reference: https://arxiv.org/abs/2011.10566.
    """
    shapes = {tuple(x.shape) for x in (first_prediction, second_prediction, first_target, second_target)}
    if len(shapes) != 1 or first_target.ndim != 2:
        raise ValueError(f"expected four arrays of one shape (B, D), got {sorted(shapes)}")
    with torch.autocast(first_target.device.type, enabled=False):
        # detached targets are the stop-gradient of the paper
        pairs = (first_prediction, second_target.detach()), (second_prediction, first_target.detach())
        cosines = [_mean_cosine(prediction, target) for prediction, target in pairs]
        return -(cosines[0] + cosines[1]) / 2


def _mean_cosine(prediction: Tensor, target: Tensor) -> Tensor:
    """Return the mean cosine () of rows (B, D)."""
    prediction, target = at_least_float32(prediction, target)
    # eps of F.cosine_similarity keeps a zero vector from a division by 0
    return F.cosine_similarity(prediction, target, dim=1).mean()
