"""Two opinions on the class of a region, weighted by whether the class had labels in training."""

from torch import Tensor

from openvocab.text.vocabulary import Vocabulary


def fuse_scores(
    text_scores: Tensor, image_scores: Tensor, vocabulary: Vocabulary, base_weight: float, novel_weight: float
) -> Tensor:
    """Return the weighted geometric mean of both, (N, K).

    Args:
        text_scores: (N, K) in 0..1, of a classifier that was trained with labels of the base classes.
        image_scores: (N, K) in 0..1, of an embedding like CLIP's.
        vocabulary: says which classes are base ones (`seen`). Where it does not, all classes get the mean weight.
        base_weight, novel_weight: of `image_scores`, 0..1; `text_scores` have the rest. ViLD-ensemble: 1/3 and 2/3.

    Raises:
        ValueError: a weight outside 0..1.

    Reference: arXiv 2104.13921, section 3.4; with other weights in F-VLM, arXiv 2209.15639.
    """
    check_weights(base_weight, novel_weight)
    if vocabulary.seen is None:
        weights = text_scores.new_full((len(vocabulary),), (base_weight + novel_weight) / 2)
    else:
        weights = text_scores.new_tensor([base_weight if seen else novel_weight for seen in vocabulary.seen])
    return text_scores ** (1 - weights) * image_scores**weights


def check_weights(base_weight: float, novel_weight: float) -> None:
    """Raise `ValueError` for a weight outside 0..1."""
    for name, weight in (("base_weight", base_weight), ("novel_weight", novel_weight)):
        if not 0 <= weight <= 1:
            raise ValueError(f"{name}: expected 0..1, got {weight}")
