"""Fusion of two scores of a region, weighted by whether a class had labels in training."""

import torch
from torch import Tensor

from openvocab.vocabulary.vocabulary import Vocabulary


def image_weights(vocabulary: Vocabulary, base_weight: float, novel_weight: float, unknown_weight: float) -> Tensor:
    """Return the weight (K,) float32 of the image scores of each class; the text scores weigh the rest of 1.

    Args:
        vocabulary: K classes; its `seen` ones are base classes.
        base_weight, novel_weight: of classes with labels in training and of others. ViLD-ensemble: 1/3 and 2/3.
        unknown_weight: of all classes, if the vocabulary does not distinguish them.

    Raises:
        ValueError: a weight outside 0..1.
    """
    check_weights(base_weight, novel_weight)
    if vocabulary.seen is None:
        return torch.full((len(vocabulary),), unknown_weight)
    return torch.tensor([base_weight if seen else novel_weight for seen in vocabulary.seen])


def fuse_scores(text_scores: Tensor, image_scores: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted geometric mean of two scores.

    Args:
        text_scores: (N, K) in 0..1, of a classifier that was trained with labels of the base classes.
        image_scores: (N, K) in 0..1, of an embedding like CLIP's.
        weights: (K,) of `image_scores`, see `image_weights`.

    Returns:
        (N, K) in 0..1.

    Reference: ViLD, arXiv 2104.13921, section 3.4; with other weights in F-VLM, arXiv 2209.15639, equation 4.
    """
    # (K,); exponents that sum to 1 for each class: scores stay in 0..1
    weights = weights.to(text_scores)
    return text_scores ** (1 - weights) * image_scores**weights


def fuse_with_background(text_scores: Tensor, image_scores: Tensor, weights: Tensor) -> Tensor:
    """Return `fuse_scores`, normalized so that the classes and the background of `text_scores` sum to 1.

    Every region is divided by its own sum, so that detections of different regions may rank differently than by
    `fuse_scores`.

    Args:
        text_scores: (N, K + 1), background last; a row sums to 1.
        image_scores: (N, K).
        weights: (K,) of `image_scores`, see `image_weights`.

    Returns:
        (N, K) in 0..1.

    Reference: the released code of F-VLM.
    """
    fused = fuse_scores(text_scores[:, :-1], image_scores, weights)
    # the background is not fused: it enters with its text score alone
    return fused / (fused.sum(dim=1, keepdim=True) + text_scores[:, -1:])


def check_weights(base_weight: float, novel_weight: float) -> None:
    """Raise `ValueError` for a weight outside 0..1."""
    for name, weight in (("base_weight", base_weight), ("novel_weight", novel_weight)):
        if not 0 <= weight <= 1:
            raise ValueError(f"{name}: expected 0..1, got {weight}")
