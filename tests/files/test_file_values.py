"""Numbers and flags of files: what each spelling stands for, and what stands for nothing."""

import math

import numpy as np
import pytest

from openvocab.files.file_values import count_from_1, flag, number, numbers, whole_number, whole_numbers


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, 1),
        (1.0, 1),
        ("1", 1),
        (" 1.000e+00 ", 1),
        ("-3.", -3),
        (1e15, 10**15),
        ("9007199254740993", 2**53 + 1),
        (np.uint8(7), 7),
        (np.int64(2**53 + 1), 2**53 + 1),
        (np.float32(3), 3),
    ],
)
def test_whole_numbers_of_any_type_and_spelling(value, expected):
    found = whole_number(value, "id")
    assert found == expected and type(found) is int


@pytest.mark.parametrize(
    "value", [True, False, None, np.True_, 1.5, "1.5", "", "x", "1_0", "٣", "0x1", [1], {}, math.nan, "inf"]
)
def test_what_is_no_whole_number_is_named(value):
    with pytest.raises(ValueError, match="image_id: expected a whole number, got ") as error:
        whole_number(value, "image_id")
    assert repr(value) in str(error.value)


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 1e30, "9" * 19])
def test_whole_numbers_have_64_bits(value):
    with pytest.raises(ValueError, match="id: expected a whole number of at most 64 bits"):
        whole_number(value, "id")
    assert whole_number(2**63 - 1, "id") == 2**63 - 1


@pytest.mark.parametrize(
    ("value", "expected"), [(2, 2.0), (0.5, 0.5), (".5", 0.5), ("-1e-3", -0.001), ("5.", 5.0), (" 7 ", 7.0)]
)
def test_numbers_of_any_type_and_spelling(value, expected):
    found = number(value, "x")
    assert found == expected and type(found) is float


def test_a_number_may_be_infinite_or_none():
    assert number("-inf", "x") == -math.inf == number(-1e400, "x")
    assert math.isnan(number("NaN", "x")) and math.isnan(number(math.nan, "x"))


@pytest.mark.parametrize("value", [True, None, "", "0,5", "1_0.5", "five", [], "1 2", 10**400, b"1"])
def test_what_is_no_number_is_named(value):
    with pytest.raises(ValueError, match="xmin: expected a number, got "):
        number(value, "xmin")


def test_lists_of_numbers():
    assert numbers([1, 2.5], "bbox", 2) == [1, 2.5] == numbers(("1", "2.5"), "bbox") == numbers(["1", " 2.5 "], "bbox")
    assert numbers(["-.5", "5.", "1E3"], "x") == [-0.5, 5, 1000] and numbers(["1", "-inf"], "x") == [1, -math.inf]
    assert numbers([], "x") == []
    for values, reason in (
        (None, "expected 4 numbers, got None"),
        ([1, 2, 3], r"expected 4 numbers, got \[1, 2, 3\]"),
        ([1, 2, 3, True], "expected a number, got True"),
        ([[1, 2], [3, 4], 5, 6], r"expected a number, got \[1, 2\]"),
        ("1234", "expected 4 numbers, got '1234'"),
        (["1", "2\n3", "4", "5"], r"expected a number, got '2\\n3'"),
        (["1", "2", "3", "1_0"], "expected a number, got '1_0'"),
        (["1", "2", "3", "9" * 100_000 + "x"], "expected a number, got '9999"),
    ):
        with pytest.raises(ValueError, match=f"bbox: {reason}"):
            numbers(values, "bbox", 4)


@pytest.mark.parametrize("values", [[0, 255], (0.0, "255"), range(0, 256, 255), np.array([0, 255], np.uint8)])
def test_lists_of_whole_numbers(values):
    assert whole_numbers(values, "ignored_ids") == [0, 255]
    assert {type(number) for number in whole_numbers(values, "ignored_ids")} == {int}


@pytest.mark.parametrize("values", [None, 5, "255", {255: 0}, [[255]], [True], [0.5], b"1"])
def test_what_is_no_list_of_whole_numbers_is_named(values):
    with pytest.raises(ValueError, match="ignored_ids: expected a (whole number|list of whole numbers), got "):
        whole_numbers(values, "ignored_ids")


def test_counts_begin_at_1():
    assert count_from_1("3", "episodes") == 3
    for value in (0, -1, 0.5, True, "x", None):
        with pytest.raises(ValueError, match="episodes: expected "):
            count_from_1(value, "episodes")


@pytest.mark.parametrize(
    ("expected", "values"),
    [
        (False, [0, 0.0, False, None, "0", "0.0", "false", "No", " FALSE "]),
        (True, [1, 1.0, True, "1", "1.0", "true", "YES", " yes "]),
    ],
)
def test_flags_of_any_type_and_spelling(expected, values):
    assert [flag(value, "iscrowd") for value in values] == [expected] * len(values)


@pytest.mark.parametrize("value", [2, -1, 0.5, math.nan, "", "none", "crowd", [], [0], {}])
def test_what_is_no_flag_is_named(value):
    with pytest.raises(ValueError, match="iscrowd: expected 0 or 1, or true or false, got "):
        flag(value, "iscrowd")
