"""From the logits of words to labels of classes, by the decision rule of the training-free papers."""

import torch
from torch import Tensor


def class_probabilities(logits: Tensor, word_class: Tensor | None) -> Tensor:
    """Return the probability of each class: that of its best word in one softmax over all words.

    Args:
        logits: (R, ...), one row per word.
        word_class: (R,) class of each word, ascending; None if each class has one word.

    Returns:
        (K, ...) float32; they sum to less than one if classes have several words.
    """
    words = logits.float().softmax(dim=0)  # (R, ...)
    if word_class is None:
        return words
    index = word_class.view(-1, *[1] * (words.ndim - 1)).expand_as(words)
    classes = words.new_zeros(int(word_class[-1]) + 1, *words.shape[1:])  # (K, ...)
    return classes.scatter_reduce(0, index, words, "amax", include_self=False)


def areas_won(probabilities: Tensor) -> Tensor:
    """Return the number of pixels that each class wins, (K,) int64, from probabilities (K, ...)."""
    return torch.bincount(probabilities.argmax(dim=0).flatten(), minlength=len(probabilities))


def small_classes(areas: Tensor, fraction: float, background: int | None) -> Tensor:
    """Return which classes win at most a fraction of the pixels that are not background.

    Args:
        areas: (K,) int64, the pixels that each class wins.
        fraction: in 0..1.
        background: its class, which is never small; None if there is none.

    Returns:
        (K,) bool.
    """
    areas = areas.clone()
    if background is not None:
        # fractions are of the pixels that show another class
        areas[background] = 0
    small = areas <= fraction * areas.sum()
    if background is not None:
        small[background] = False
    return small


def improbable_classes(best: Tensor, threshold: float, background: int | None) -> Tensor:
    """Return which classes reach a probability at no pixel.

    Args:
        best: (K,) the highest probability of each class.
        threshold: in 0..1.
        background: its class, which is never improbable; None if there is none.

    Returns:
        (K,) bool; False for the most probable class, so that at least one is left.
    """
    improbable = best < threshold
    improbable[best.argmax()] = False
    if background is not None:
        improbable[background] = False
    return improbable


def label(probabilities: Tensor, background: int | None, threshold: float | None, absent: Tensor | None) -> Tensor:
    """Return the class with the highest probability, or background if that is below the threshold.

    Args:
        probabilities: (K, ...).
        background: its class; None if there is none, and no threshold.
        threshold: in 0..1; None for no threshold.
        absent: (K,) bool, classes whose probability is set to zero; None for no such class.

    Returns:
        (...) int64.
    """
    if absent is not None:
        # not renormalized: the threshold applies to the probabilities among all words
        probabilities = probabilities * ~absent.view(-1, *[1] * (probabilities.ndim - 1))
    best, labels = probabilities.max(dim=0)  # (...) each
    if background is None or threshold is None:
        return labels
    return torch.where(best < threshold, background, labels)
