"""A group of arguments comes as a dict, and what is wrong with it is one line."""

from dataclasses import dataclass

import numpy as np
import pytest

from openvocab.argument_checks import argument_group, check_flags, check_number, check_numbers, check_texts


@dataclass(frozen=True)
class Loading:
    """A group with a required argument."""

    policy: str
    share: float = 0.5


def test_a_group_is_built_of_a_dict():
    assert argument_group("loading", {"policy": "skip"}, Loading) == Loading("skip", 0.5)


def test_a_group_that_is_built_stays():
    loading = Loading("skip", 0.1)
    assert argument_group("loading", loading, Loading) is loading


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"polcy": "skip"}, "loading: unknown 'polcy'; did you mean 'policy'? expected some of policy, share"),
        ({1: 2, "policy": "skip"}, "loading: unknown 1; expected some of policy, share"),
        ({"share": 0.5}, "loading: 'policy' is missing; expected a dict with some of policy, share"),
        (None, "loading: 'policy' is missing; expected a dict with some of policy, share"),
        ("skip", "loading: expected a dict with some of policy, share, such as loading=dict(policy=...), got 'skip'"),
    ],
)
def test_what_is_wrong_with_a_group_is_one_line(given, message):
    with pytest.raises(TypeError) as error:
        argument_group("loading", given, Loading)
    assert str(error.value) == message


@pytest.mark.parametrize("value", [None, 0, 1, "yes", [True]])
def test_a_flag_is_true_or_false(value):
    check_flags({"a.b": True, "a.c": False})
    with pytest.raises(ValueError) as error:
        check_flags({"a.b": True, "a.c": value})
    assert str(error.value) == f"a.c: expected True or False, got {value!r}"


@pytest.mark.parametrize("value", [None, 5, b"x", ["x"]])
def test_a_text_is_a_string(value):
    check_texts({"a.b": "", "a.c": "x"})
    with pytest.raises(ValueError) as error:
        check_texts({"a.b": "", "a.c": value})
    assert str(error.value) == f"a.c: expected a string, got {value!r}"


@pytest.mark.parametrize("value", [1, 2.5, np.float32(1), np.int64(3)])
def test_numbers_of_python_and_numpy_are_taken(value):
    check_number("a", value, 1)
    check_numbers("a", (1, value), 1)
    check_number("a", None, optional=True)
    check_number("a", np.int64(3), whole=True)


@pytest.mark.parametrize(
    ("value", "options", "expected"),
    [
        ("3", {}, "a number"),
        (True, {}, "a number"),
        (None, {}, "a number"),
        (float("nan"), {}, "a number"),
        (float("inf"), {}, "a number"),
        (-1, dict(minimum=0), "a number of at least 0"),
        (2.0, dict(whole=True), "a whole number"),
        (0, dict(minimum=1, whole=True, optional=True), "a whole number of at least 1, or None"),
        (np.ones((2, 2)), {}, "a number"),
    ],
)
def test_what_is_wrong_with_a_number_is_one_line(value, options, expected):
    with pytest.raises(ValueError) as error:
        check_number("a.b", value, **options)
    shown = " ".join(repr(value).split())
    assert str(error.value) == f"a.b: expected {expected}, got {shown}"


@pytest.mark.parametrize("values", [3, None, "12", b"12", {1: 2}, [1, "2"], [1, True], [[1]], [1, -1]])
def test_what_is_wrong_with_a_list_of_numbers_is_one_line(values):
    with pytest.raises(ValueError) as error:
        check_numbers("a.b", values, 0, whole=True)
    assert str(error.value) == f"a.b: expected a list of whole numbers of at least 0, got {values!r}"
