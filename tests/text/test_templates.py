"""Templates: the named sets, the slots, and what a custom list must look like."""

import json

import pytest

from openvocab.text.templates import LONG_SETS, SHORT_SETS, fill_template, resolve_templates


@pytest.mark.parametrize(
    ("name", "count"), [("none", 1), ("lseg", 1), ("simple", 1), ("imagenet7", 7), ("imagenet80", 80), ("vild63", 63)]
)
def test_named_sets_have_their_size_and_one_slot_each(name, count):
    templates = resolve_templates(name)
    assert len(templates) == len(set(templates)) == count
    assert resolve_templates(list(templates)) == templates  # each passes the check of user lists


def test_every_named_set_is_listed():
    with pytest.raises(ValueError, match="unknown template set 'imagnet80'") as error:
        resolve_templates("imagnet80")
    assert all(name in str(error.value) for name in (*SHORT_SETS, *LONG_SETS))


def test_imagenet_sets_are_the_published_ones(shared_data):
    published = json.loads((shared_data / "meta/templates/openai_imagenet.json").read_text())
    assert resolve_templates("imagenet80") == tuple(published["openai_80"])
    assert resolve_templates("imagenet7") == tuple(published["openai_simple_7"])


@pytest.mark.parametrize(
    ("name", "expected"),
    [("zebra", "There is a zebra."), ("ostrich", "There is an ostrich."), ("Apple", "There is an Apple.")],
)
def test_article_follows_the_first_letter(name, expected):
    assert fill_template("There is {article} {}.", name) == expected


@pytest.mark.parametrize("name", ["cat", "{}", "{article}", "a {0} b", "100 %s", "猫", "cat\\n"])
def test_a_name_is_put_in_as_it_is(name):
    assert fill_template("a photo of a {}.", name) == f"a photo of a {name}."
    assert fill_template("{}", name) == name


@pytest.mark.parametrize(
    ("templates", "message"),
    [
        ([], "empty list"),
        (["a photo"], "'a photo': expected exactly one '{}' for the class name, found 0"),
        (["{} and {}"], "found 2"),
        (["a photo of {name}"], "found 0"),
        (["a {color} {}"], "only the slots"),
        ([3], "expected a string, got int"),
    ],
)
def test_a_bad_list_is_refused_by_name(templates, message):
    with pytest.raises(ValueError) as error:
        resolve_templates(templates)
    assert message in str(error.value)
