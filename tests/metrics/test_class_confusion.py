"""Confusions of classes: counted as in a plain loop, and reduced without losing a count."""

import numpy as np
import pytest

from openvocab.metrics.class_confusion import ClassConfusion, label_counts


def confusion(num_classes: int, seed: int = 0) -> ClassConfusion:
    counts = np.random.default_rng(seed).integers(0, 9, (num_classes, num_classes))
    return ClassConfusion(tuple(f"class {index}" for index in range(num_classes)), counts, "pixels")


def test_pairs_are_counted_as_in_a_plain_loop():
    generator = np.random.default_rng(0)
    labels, predictions = generator.integers(0, 5, (2, 200))
    expected = np.zeros((5, 5), int)
    for label, prediction in zip(labels, predictions):
        expected[label, prediction] += 1
    assert (label_counts(labels, predictions, 5) == expected).all()


@pytest.mark.parametrize("limit", [2, 5, 19])
def test_classes_with_fewer_mistakes_are_merged_and_no_count_is_lost(limit):
    whole = confusion(20)
    part = whole.most_confused(limit)
    assert len(part.class_names) == limit and part.class_names[-1] == f"{21 - limit} other classes"
    assert part.counts.sum() == whole.counts.sum()
    kept = [whole.class_names.index(name) for name in part.class_names[:-1]]
    assert kept == sorted(kept)
    assert (part.counts[:-1, :-1] == whole.counts[np.ix_(kept, kept)]).all()
    assert (part.counts.sum(1)[:-1] == whole.counts.sum(1)[kept]).all()
    errors = whole.counts.sum(0) + whole.counts.sum(1) - 2 * whole.counts.diagonal()
    merged = [index for index in range(20) if index not in kept]
    assert errors[kept].min() >= errors[merged].max()


def test_absent_classes_are_dropped_and_a_small_matrix_stays():
    whole = confusion(6)
    whole.counts[2], whole.counts[:, 2] = 0, 0
    part = whole.most_confused(6)
    assert part.class_names == ("class 0", "class 1", "class 3", "class 4", "class 5")
    assert part.counts.shape == (5, 5)
    assert ClassConfusion(("a", "b"), np.zeros((2, 2), int), "images").most_confused(4).class_names == ()


def test_plain_values_hold_everything():
    whole = confusion(4)
    again = ClassConfusion.from_plain(whole.to_plain())
    assert again.class_names == whole.class_names and again.counted == "pixels"
    assert (again.counts == whole.counts).all() and again.counts.dtype == np.int64
