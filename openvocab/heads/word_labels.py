"""From the logits of words to classes, as the training-free papers decide: on pixels, by probabilities."""

import torch
from torch import Tensor


def class_probabilities(logits: Tensor, word_class: Tensor | None) -> Tensor:
    """Return the probability of each class: that of the best of its words in one softmax over all words.

    Args:
        logits: (R, ...) one row a word.
        word_class: (R,) class of each word, ascending; None where each class has one word.

    Returns:
        (K, ...) float32; classes of several words sum to less than one.
    """
    words = logits.float().softmax(dim=0)
    if word_class is None:
        return words
    index = word_class.view(-1, *[1] * (words.ndim - 1)).expand_as(words)
    classes = words.new_zeros(int(word_class[-1]) + 1, *words.shape[1:])
    return classes.scatter_reduce(0, index, words, "amax", include_self=False)


def areas_won(probabilities: Tensor) -> Tensor:
    """Return how many places each class wins, (K,) int64, from (K, ...)."""
    return torch.bincount(probabilities.argmax(dim=0).flatten(), minlength=len(probabilities))


def small_classes(areas: Tensor, share: float, background: int | None) -> Tensor:
    """Return which classes win at most `share` of all places that are not background, (K,) bool; never background."""
    areas = areas.clone()
    if background is not None:
        areas[background] = 0
    small = areas <= share * areas.sum()
    if background is not None:
        small[background] = False
    return small


def label(probabilities: Tensor, background: int | None, threshold: float | None, absent: Tensor | None) -> Tensor:
    """Return the class of the highest probability, background where that stays below the threshold.

    Args:
        probabilities: (K, ...).
        background: its class; without one there is no threshold.
        threshold: in 0..1, or None.
        absent: (K,) bool, classes that count as probability zero; None for none.

    Returns:
        (...) int64.
    """
    if absent is not None:
        probabilities = probabilities * ~absent.view(-1, *[1] * (probabilities.ndim - 1))
    best, labels = probabilities.max(dim=0)
    if background is None or threshold is None:
        return labels
    return torch.where(best < threshold, background, labels)
