"""Vocabulary: what users type, good and bad."""

import json
import pickle
import re

import pytest

from openvocab.vocabulary.class_lists import load_split
from openvocab.vocabulary.vocabulary import Vocabulary, read_class_names


def test_one_class_is_a_vocabulary():
    assert len(Vocabulary.from_names(["cat"])) == 1


@pytest.mark.parametrize(
    "name",
    ["a cat's ball", "🐈", "👩‍👩‍👧 family", "قطة", "\u200fחתול", "猫", "café", "word " * 500, "x" * 5000, "{}", "a;b"],
)
def test_unusual_names_are_kept_as_they_are(name):
    assert Vocabulary.from_names(["dog", name]).class_names == ("dog", name)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "at least one class name"),
        (["cat", ""], "class 1: the name is empty"),
        (["cat", "  \u00a0"], "class 1: the name is empty"),
        (["\u200b\u200d"], "class 0: the name is empty"),
        (["cat", "dog\nfood"], "class 1: the name 'dog\\nfood' contains a control character"),
        (["cat", "bell\x07"], "class 1"),
        (["cat", "half \ud83d"], "class 1"),
        (["cat", "dog", "cat"], "name 'cat' is given twice (case and white space are ignored): class 0 and class 2"),
        (["cat", "Cat"], "class 0 and class 1"),
        (["traffic light", " traffic  light "], "class 0 and class 1"),
        (["traffic_light", "traffic light"], "class 0 and class 1"),
        (["cat", "_"], "class 1: the name is empty"),
        (["caf\u00e9", "cafe\u0301"], "class 0 and class 1"),
        ([["cat", "kitten"], ["dog", "kitten"]], "name 'kitten' is given twice"),
        ([["cat", "CAT"]], "class 0 and class 0"),
        (["cat", 7], "class 1: expected a name or a list of names, got int"),
        (["cat", ["dog", 7]], "class 1: expected a string, got int"),
        (["cat", []], "class 1 has no name"),
        ("cat, dog", "got one string"),
    ],
)
def test_bad_names_are_refused_with_their_index(names, message):
    with pytest.raises(ValueError) as error:
        Vocabulary.from_names(names)
    assert message in str(error.value)


def test_classes_may_share_a_name_where_that_is_asked_for():
    names = ["door", "screen", "wall", "screen"]
    vocabulary = Vocabulary.from_names(names, repeated_names=["Screen"])
    assert vocabulary.class_names == tuple(names)
    assert vocabulary.subset([3, 1]).class_names == ("screen", "screen")
    with pytest.raises(ValueError, match="class 1 and class 3"):
        Vocabulary.from_names(names, repeated_names=["door"])
    with pytest.raises(ValueError, match="class 0 and class 0"):  # of one class it stays a mistake
        Vocabulary.from_names([["screen", "Screen"]], repeated_names=["screen"])


def test_unseen_and_background_names_are_compared_as_all_names_are():
    names = ["Stop Sign", "caf\u00e9", "dog", "void"]
    vocabulary = Vocabulary.from_names(names, unseen=["stop_sign", "Cafe\u0301"], background="VOID ")
    assert vocabulary.seen == (False, False, True, True) and vocabulary.background == 3
    for options, message in (
        (dict(unseen=["stop"]), "unseen: 'stop' is not among the 4 class names"),
        (dict(unseen=[7]), "unseen: 7 is not among"),
        (dict(background="sky"), "background: 'sky' is not among"),
        (dict(background=3), "background: 3 is not among"),
        (dict(unseen="dog"), "unseen: expected a list of class names, got one string 'dog'"),
        (dict(repeated_names="dog"), "repeated_names: expected a list of class names, got one string 'dog'"),
    ):
        with pytest.raises(ValueError, match=message):
            Vocabulary.from_names(names, **options)


def test_text_is_split_at_commas_and_bars():
    vocabulary = Vocabulary.from_text(" cat | kitten, sofa ,potted plant")
    assert vocabulary.synonyms == (("cat", "kitten"), ("sofa",), ("potted plant",))


@pytest.mark.parametrize(("text", "index"), [("", 0), ("cat,", 1), ("cat,,dog", 1), ("cat, dog |", 1)])
def test_nothing_between_separators_is_refused_with_its_index(text, index):
    with pytest.raises(ValueError, match=f"class {index}: the name is empty"):
        Vocabulary.from_text(text)


def test_flags_come_from_names():
    vocabulary = Vocabulary.from_names(["background", "cat", "dog"], unseen=["dog"], background="background")
    assert vocabulary.seen == (True, True, False)
    assert vocabulary.background == 0


@pytest.mark.parametrize("flags", [{"unseen": ["cow"]}, {"background": "cow"}])
def test_a_flag_for_a_name_that_is_not_there_is_refused(flags):
    with pytest.raises(ValueError, match="'cow' is not among the 2 class names"):
        Vocabulary.from_names(["cat", "dog"], **flags)


def test_unseen_as_one_string_is_refused():
    with pytest.raises(ValueError, match="unseen: expected a list"):
        Vocabulary.from_names(["cat", "dog"], unseen="cat")


@pytest.mark.parametrize(
    "fields", [{"seen": (True,)}, {"background": 2}, {"background": -1}, {"synonym_merge": "median"}]
)
def test_bad_fields_are_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields)).split("_")[0]):
        Vocabulary((("cat",), ("dog",)), **fields)


def test_underscores_are_spaces_wherever_names_come_from(tmp_path):
    names, split = ["traffic_light", ["__back_ground__", "sky"], "a  b"], ["traffic_light"]
    (tmp_path / "names.txt").write_text("traffic_light\n__back_ground__; sky\na  b\n")
    (tmp_path / "split.json").write_text(json.dumps({"unseen": split}))
    read = read_class_names(tmp_path / "names.txt")
    expected = (("traffic light",), ("back ground", "sky"), ("a  b",))
    assert tuple(map(tuple, read)) == expected
    for given, unseen in ((names, split), (read, load_split(tmp_path / "split.json")["unseen"])):
        vocabulary = Vocabulary.from_names(given, unseen=unseen, background="__back_ground__")
        assert (vocabulary.synonyms, vocabulary.seen, vocabulary.background) == (expected, (False, True, True), 1)
    assert Vocabulary.from_text("traffic_light, cat").class_names == ("traffic light", "cat")


@pytest.mark.parametrize("argument", ["unseen", "background"])
def test_a_name_that_is_no_class_is_an_error_of_its_argument(argument):
    value = ["lion"] if argument == "unseen" else "lion"
    with pytest.raises(ValueError, match=f"{argument}: 'lion' is not among the 2 class names"):
        Vocabulary.from_names(["cat", "dog"], **{argument: value})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat; dog", "class 0: ';' in 'cat; dog'; commas separate classes, '|' synonyms"),
        ("sky, cat\ndog", "class 1: '\\n'"),
        ("猫，犬", "class 0: '，'"),
        ("names.txt", "class 0: 'names.txt' looks like the name of a file"),
        ("cat, my/coco.NAMES", "class 1: 'my/coco.NAMES' looks like the name of a file"),
    ],
)
def test_slips_in_typed_text_are_refused(text, message):
    with pytest.raises(ValueError) as error:
        Vocabulary.from_text(text)
    assert str(error.value).startswith(message)


def test_dots_in_names_are_no_file_endings():
    assert len(Vocabulary.from_text("St. Bernard, mr. data, 7.5 t truck, e.g. this")) == 4


@pytest.mark.parametrize("name", ["names.json", "data.yaml", "names.CSV"])
def test_files_of_other_formats_are_no_lists_of_names(tmp_path, name):
    (tmp_path / name).write_text("names:\n- cat\n- dog\n")
    with pytest.raises(ValueError, match="expected a text file of names, one class per line"):
        read_class_names(tmp_path / name)


def test_subset_keeps_flags_and_order():
    vocabulary = Vocabulary.from_names(["background", "cat", "dog"], unseen=["dog"], background="background")
    subset = vocabulary.subset([2, 0])
    assert subset.class_names == ("dog", "background")
    assert subset.seen == (False, True)
    assert subset.background == 1
    assert vocabulary.subset([1]).background is None


def test_digest_tells_vocabularies_apart_and_survives_pickling():
    variants = [
        Vocabulary.from_names(["cat", "dog"]),
        Vocabulary.from_names(["dog", "cat"]),
        Vocabulary.from_names([["cat", "dog"]]),
        Vocabulary.from_names([["cat", "dog"]], synonym_merge="max"),
        Vocabulary.from_names(["cat", "dog"], unseen=["dog"]),
        Vocabulary.from_names(["cat", "dog"], background="dog"),
    ]
    assert len({vocabulary.digest for vocabulary in variants}) == len(variants)
    copies = [pickle.loads(pickle.dumps(vocabulary)) for vocabulary in variants]
    assert copies == variants
    assert [copy.digest for copy in copies] == [vocabulary.digest for vocabulary in variants]


def test_names_file_knows_comments_synonyms_byte_order_mark_and_windows_line_ends(tmp_path):
    path = tmp_path / "names.txt"
    path.write_bytes("\ufeff# mine\r\ncat; kitten\r\n# more\r\nchien café\r\n\r\n".encode())
    assert read_class_names(path) == [["cat", "kitten"], ["chien café"]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("cat\n\ndog\n", ":2: empty"),
        ("\ncat", ":1: empty"),
        ("cat\ndog;", ":2: empty"),
        ("", "no class names"),
        ("# only\n", "no class names"),
        ("cat\ndog | puppy\n", ":2: '|' in 'dog | puppy'; in a file ';' separates synonyms"),
        ("cat, dog, car\n", ":1: 'cat, dog, car' looks like several names with commas between them"),
        ("cat\ndog\x0bcar\n", r":2: the name 'dog\x0bcar' contains a control character"),
    ],
)
def test_bad_names_file_is_refused_with_its_line(tmp_path, content, message):
    path = tmp_path / "names.txt"
    path.write_text(content)
    with pytest.raises(ValueError, match=re.escape(message)):
        read_class_names(path)
