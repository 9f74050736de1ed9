"""A group of arguments comes as a dict, and what is wrong with it is one line."""

from dataclasses import dataclass

import pytest

from openvocab.argument_checks import argument_group


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
        ("skip", "loading: expected a dict with some of policy, share, got 'skip'"),
    ],
)
def test_what_is_wrong_with_a_group_is_one_line(given, message):
    with pytest.raises(TypeError) as error:
        argument_group("loading", given, Loading)
    assert str(error.value) == message
