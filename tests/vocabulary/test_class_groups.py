import pytest

from openvocab.vocabulary.class_groups import class_groups

NAMES = [["a"], ["bb", "c"], ["ddd"], ["e"]]


@pytest.mark.parametrize(
    ("order", "names_at_once", "max_length", "expected"),
    [
        (range(4), None, None, [[0, 1, 2, 3]]),
        (range(4), 2, None, [[0], [1], [2, 3]]),
        (range(4), 1, None, [[0], [1], [2], [3]]),
        (range(4), None, 4, [[0, 1], [2, 3]]),
        ([3, 2, 1, 0], None, 4, [[3, 2], [1, 0]]),
        (range(4), 2, 3, [[0], [1], [2], [3]]),
        ([], None, None, []),
    ],
)
def test_classes_are_grouped_in_order_up_to_both_limits(order, names_at_once, max_length, expected):
    assert class_groups(NAMES, order, names_at_once, max_length, len) == expected


def test_a_class_that_does_not_fit_is_named():
    with pytest.raises(ValueError, match="class 1: its names have 3 tokens together, .* at most 2: 'bb, c'"):
        class_groups(NAMES, range(4), None, 2, len)
