"""GroupViT's zero-shot segmentation: pixels take the class scores of their groups."""

import torch
import torch.nn.functional as F
from torch import Tensor

from openvocab.postprocess import label_map_from_logits
from openvocab.structures import Size


def class_affinity(group_logits: Tensor, image_logits: Tensor, top_k: int | None) -> Tensor:
    """Return the scores of the classes for each group: a product of two softmaxes.

    The first is over all classes; the second is over the `top_k` classes that fit the whole image best, and zero for
    the others.

    Args:
        group_logits: (B, G, K) scaled cosines of segments and classes, without the background.
        image_logits: (B, K) of the whole images; only their order matters.
        top_k: number of classes that an image may show; None for all.

    Returns:
        (B, G, K) float32 in 0..1.
    """
    logits = group_logits.float()
    limited = logits
    if top_k is not None and top_k < logits.shape[-1]:
        best = image_logits.topk(top_k, dim=-1).indices  # (B, top_k)
        absent = torch.ones_like(image_logits, dtype=torch.bool).scatter_(1, best, False)  # (B, K)
        # minus infinity: the second softmax of an absent class is exactly 0, and so is the product
        limited = logits.masked_fill(absent[:, None], -torch.inf)
    return logits.softmax(dim=-1) * limited.softmax(dim=-1)


def with_background(affinity: Tensor, index: int, threshold: float, is_shared: bool = False) -> Tensor:
    """Insert the background, for groups (or shared pixels) whose best class scores less than a threshold.

    The threshold is lowered to the best score of the image, so that the image's best group is never background.

    Args:
        affinity: (B, G, K - 1) of the other classes.
        index: index of the background among the K classes.
        threshold: a score in 0..1.
        is_shared: whether pixels have the scores of several groups (`shared_score_maps`). If so, the background's score
            is the threshold everywhere; otherwise it is 1 for groups below the threshold and 0 for the others.

    Returns:
        (B, G, K).
    """
    best = affinity.amax(dim=2)  # (B, G)
    lowered = best.amax(dim=1, keepdim=True).clamp(max=threshold)  # (B, 1)
    background = lowered.expand_as(best) if is_shared else (best < lowered).to(affinity.dtype)  # (B, G)
    return torch.cat([affinity[..., :index], background[..., None], affinity[..., index:]], dim=2)  # (B, G, K)


def group_label_maps(soft_maps: Tensor, size: Size) -> Tensor:
    """Assign each pixel to its most likely group: bilinear interpolation (corners not aligned) and argmax.

    Args:
        soft_maps: (B, G, h, w) share of each group in each patch.
        size: (H, W) of the result.

    Returns:
        (B, H, W) int64 in 0..G - 1.
    """
    return torch.stack([label_map_from_logits(maps, size) for maps in soft_maps]).long()


def score_maps(affinity: Tensor, group_maps: Tensor) -> Tensor:
    """Return the scores of each pixel's group.

    Args:
        affinity: (B, G, K).
        group_maps: (B, H, W) int64, the group of each pixel.

    Returns:
        (B, K, H, W).
    """
    height, width = group_maps.shape[1:]
    columns = affinity.transpose(1, 2)  # (B, K, G)
    index = group_maps.flatten(1)[:, None].expand(-1, columns.shape[1], -1)  # (B, K, H * W)
    return columns.gather(2, index).unflatten(2, (height, width))  # (B, K, H, W)


def group_share_maps(soft_maps: Tensor, size: Size) -> Tensor:
    """Return the share of each group in each pixel: bilinear interpolation (corners not aligned).

    Args:
        soft_maps: (B, G, h, w); sums to one over the groups.
        size: (H, W) of the result.

    Returns:
        (B, G, H, W) float32; sums to one over the groups.
    """
    return F.interpolate(soft_maps.float(), size=size, mode="bilinear", align_corners=False)


def shared_score_maps(affinity: Tensor, share_maps: Tensor) -> Tensor:
    """Return the mean of the scores of all groups for each pixel, weighted by its shares.

    Groups are added one by one: the bits of a class do not depend on which other classes are computed with it.

    Args:
        affinity: (B, G, K).
        share_maps: (B, G, H, W).

    Returns:
        (B, K, H, W).
    """
    # (B, K, 1, 1) and (B, 1, H, W) per group
    columns, shares = affinity[..., None, None].unbind(1), share_maps[:, :, None].unbind(1)
    scores = columns[0] * shares[0]
    for column, share in zip(columns[1:], shares[1:]):
        # a matrix product could add the groups in an order that depends on K
        scores = torch.addcmul(scores, column, share)
    return scores
