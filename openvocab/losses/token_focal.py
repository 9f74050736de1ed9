"""The focal loss of locations and tokens: does this token describe what is at this location?"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from openvocab.losses.chunked_sum import at_least_float32, sum_over_chunks
from openvocab.losses.distributed_batch import joint_ratio, rank_count


def token_focal(
    logits: Tensor,
    matches: Sequence[Tensor],
    object_tokens: Sequence[Tensor],
    is_token: Tensor,
    *,
    alpha: float = 0.25,
    gamma: float = 2.0,
    gather: bool = True,
) -> Tensor:
    """Return the sigmoid focal loss of all tokens at all locations, divided by the number of positive locations.

    The target of a token is 1 if it describes the object of the location, and 0 for all others, at every location. With
    several ranks (`gather`) sum and number are those of all ranks, and the gradient is that of one process with the
    joint batch (see `joint_loss`). The backward pass computes the loss of each image again instead of storing it.

    Args:
        logits: (B, N, T).
        matches: of each image: (N,) index of the object of each location, -1 without one.
        object_tokens: of each image: (G_i, T) bool, the tokens that describe each object.
        is_token: (B, T) bool, False for padding, whose columns are not read.
        alpha: weight of positive targets; others weigh 1 - alpha.
        gamma: exponent that makes well classified pairs count less.
        gather: whether the ranks' batches are one.

    Returns:
        () float32. Divided by at least one location per rank, so that a batch without objects has a loss.

    Reference: RetinaNet, arXiv 1708.02002; on tokens in GLIP, arXiv 2112.03857.
    """

    def of_image(chunk: slice) -> Tensor:
        image = chunk.start
        columns = is_token[image]  # (T,)
        targets = _targets(matches[image], object_tokens[image][:, columns])  # (N, t)
        with torch.autocast(logits.device.type, enabled=False):
            (rows,) = at_least_float32(logits[image][:, columns])
            return sigmoid_focal_loss(rows, targets.to(rows), alpha, gamma, reduction="sum")

    positives = torch.stack([(of_image >= 0).sum() for of_image in matches]).sum()
    return joint_ratio(sum_over_chunks(of_image, len(logits), 1), positives, 1.0, rank_count(gather))


def _targets(matches: Tensor, object_tokens: Tensor) -> Tensor:
    """Return the tokens (N, t) bool of the object of each location, from matches (N,) and object_tokens (G, t)."""
    # the row after the last object, which -1 indexes, describes nothing
    nothing = object_tokens.new_zeros(1, object_tokens.shape[1])
    return torch.cat([object_tokens, nothing])[matches]
