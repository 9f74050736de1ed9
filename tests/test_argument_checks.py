"""A group of arguments comes as a dict, and what is wrong with it is one line."""

from dataclasses import dataclass

import numpy as np
import pytest

from openvocab.argument_checks import (
    argument_group,
    check_flags,
    check_fraction,
    check_number,
    check_numbers,
    check_texts,
    construct_group,
)


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


class Layer:
    def __init__(self, dim, kind="plain"):
        if kind != "plain":
            raise ValueError("kind: expected 'plain'")
        if dim > 9:
            raise ValueError("too wide: 9 at most")
        self.dim = dim


def test_a_part_is_constructed_from_a_dict_and_from_what_is_passed():
    assert construct_group("layer", None, Layer, dim=3).dim == construct_group("layer", dict(dim=3), Layer).dim == 3


@pytest.mark.parametrize(
    ("given", "passed", "kind", "message"),
    [
        (dict(dim=3, kind="odd"), {}, ValueError, "layer.kind: expected 'plain'"),
        (dict(kind="odd"), dict(dim=3), ValueError, "layer.kind: expected 'plain'"),
        (dict(dim=10), {}, ValueError, "too wide: 9 at most"),
        (
            dict(dim=3, kimd="odd"),
            {},
            TypeError,
            "layer: unknown 'kimd'; did you mean 'kind'? expected some of dim, kind",
        ),
        (dict(dim=3), dict(dim=4), TypeError, "layer: unknown 'dim'; expected some of kind"),
        ({}, {}, TypeError, "layer: 'dim' is missing; expected a dict with some of dim, kind"),
    ],
)
def test_an_error_of_a_part_names_its_dict(given, passed, kind, message):
    with pytest.raises(kind) as error:
        construct_group("layer", given, Layer, **passed)
    assert str(error.value) == message


@pytest.mark.parametrize("value", [None, -0.1, 1.1, float("nan"), True, "0.5"])
def test_a_fraction_is_a_number_from_0_to_1(value):
    check_fraction("share", 0)
    check_fraction("share", 1.0)
    with pytest.raises(ValueError) as error:
        check_fraction("share", value)
    assert str(error.value) == f"share: expected a number from 0 to 1, got {value!r}"


def test_a_list_of_numbers_may_have_a_stated_length():
    check_numbers("sizes", (1, 2), 1, whole=True, count=2)
    with pytest.raises(ValueError) as error:
        check_numbers("sizes", (1, 2, 3), 1, whole=True, count=2)
    assert str(error.value) == "sizes: expected a list of 2 whole numbers of at least 1, got (1, 2, 3)"


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
