"""Lists of names in the forms of other programs are refused, whichever way they come; names stay what they are."""

import re

import pytest
from time_limit import time_limit

from openvocab.datasets.detection import DetectionDataset
from openvocab.predictor import as_vocabulary
from openvocab.vocabulary.class_lists import CLASS_NAMES_FOLDER
from openvocab.vocabulary.list_forms import foreign_form
from openvocab.vocabulary.vocabulary import Vocabulary, read_class_names

LISTS = {
    "yaml mapping": (["0: cat", "1: dog"], 0, "looks numbered"),
    "one of a mapping": (["0: cat"], 0, "looks numbered"),
    "numbers and blanks": (["0 cat", "1 dog"], 0, "looks numbered, as do all that follow"),
    "numbers from 1 with holes": (["1 person", "2 bicycle", "4 car"], 0, "looks numbered"),
    "numbers and full stops": (["1. cat", "2. dog"], 0, "looks numbered"),
    "numbers and brackets": (["1) cat", "2) dog"], 0, "looks numbered"),
    "numbers and underscores": (["0_cat", "1_dog"], 0, "looks numbered"),
    "numbers and tabs": (["0\tcat", "1\tdog"], 0, "looks numbered"),
    "birds of CUB": (["1 001.Black_footed_Albatross", "2 002.Laysan_Albatross"], 0, "looks numbered"),
    "numbers behind": (["cat: 0", "dog: 1"], 0, "looks numbered"),
    "a table": (["id name", "0 cat", "1 dog", "2 cow"], 1, "looks numbered"),
    "numbers of other scripts": (["1、猫", "2、狗"], 0, "looks numbered"),
    "full-width numbers": (["（1）猫", "（2）狗"], 0, "looks numbered"),
    "circled numbers": (["① cat", "② dog"], 0, "looks numbered"),
    "keys in quotes": (["'0': cat", "'1': dog"], 0, "looks numbered"),
    "classes by number": (["class 0: cat", "class 1: dog"], 0, "looks numbered"),
    "quotes of other languages": (["cat", "«dog»"], 1, "looks in quotes"),
    "German quotes": (["„Katze“", "„Hund“"], 0, "looks in quotes"),
    "bytes": (["b'cat'", "b'dog'"], 0, "looks in quotes"),
    "CVAT": (["background:0,0,0::", "cat:128,0,0::"], 0, "an entry of a color map"),
    "CamVid": (["64 128 64\tAnimal", "192 0 128\tArchway"], 0, "an entry of a color map"),
    "label map without its frame": (["name: cat", "name: dog"], 0, "looks like YAML"),
    "bold": (["**cat**", "**dog**"], 0, "an item of a list"),
    "WordNet behind a comma": (["tench,n01440764", "goldfish,n01443537"], 0, "an id of WordNet"),
    "WordNet's objects": (["Synset('dog.n.01')"], 0, "an id of WordNet"),
    "Open Images behind": (["Tortoise,/m/011k07", "Sea turtle,/m/0120dh"], 0, "an id of Open Images"),
    "quotes": (["'cat'", "'dog'"], 0, "looks in quotes"),
    "quotes and commas": (['"cat",', '"dog"'], 0, "looks in quotes"),
    "commas": (["cat,", "dog"], 0, "with a comma after it"),
    "names in one": (["cat, dog, sofa"], 0, "several names with commas"),
    "letters": (["a) cat", "b) dog"], 0, "looks numbered"),
    "numbers in brackets": (["(1) cat"], 0, "looks numbered"),
    "dashes": (["0 – cat", "1 – dog"], 0, "looks numbered"),
    "bullets": (["• cat", "• dog"], 0, "an item of a list"),
    "Python on lines": (["CLASS_NAMES = [", "'cat',", "]"], 0, "looks like a list or mapping of Python"),
    "Python's dict": (["metainfo = dict(", "cat=0)"], 0, "looks like a list or mapping of Python"),
    "a list of Markdown": (["- cat", "- dog"], 0, "an item of a list"),
    "yaml": (["names:", "- cat"], 0, "looks like YAML"),
    "WordNet": (["n02119789 kit_fox", "n02100735 English_setter"], 0, "an id of WordNet"),
    "WordNet behind": (["kit fox", "setter n02100735"], 1, "an id of WordNet"),
    "WordNet's synsets": (["dog.n.01", "kit_fox.n.01"], 0, "an id of WordNet"),
    "Open Images": (["/m/011k07,Tortoise", "/m/0120dh,Sea turtle"], 0, "an id of Open Images"),
    "label map": (["item { id: 1 name: 'cat' }"], 0, "a label map"),
    "label map on lines": (["item {", "  id: 1", "  name: 'cat'", "}"], 0, "a label map"),
    "Python": (["['cat', 'dog']"], 0, "a list or mapping of Python or JSON"),
    "JSON": (['{"cat": 0}'], 0, "a list or mapping of Python or JSON"),
    "XML": (["<name>cat</name>"], 0, "XML or HTML"),
    "Grounding DINO": (["cat. dog."], 0, "a prompt of several names"),
    "Grounding DINO, blanks": (["cat . dog"], 0, "a prompt of several names"),
}

NAMES = [
    ["7-up", "3d printer", "t-shirt", "dr. pepper", "st. bernard"],
    ["7 up"],
    ["2 cats", "dog"],
    ["0", "1", "2"],
    ["1 euro", "2 euro"],
    ["level 1", "level 2"],
    ["boeing 737", "boeing 747"],
    ["2 wheeler", "4 wheeler"],
    ["1:30", "2024-01-01"],
    ["1st", "2nd"],
    ["Mt. St. Helens", "Washington D. C.", "rosa sp."],
    ["'70s sofa", '12" pan', "{}", "rock 'n' roll sign"],
    ["defect: crack", "defect: hole"],
    ["Молоко паст. отб. 3,2%", "Kfz. inkl. Anhänger", "Brig. Gen. insignia"],
    ["Fatsia japonica (Thunb.) Decne. & Planch.", "Aloe arborescens Mill. var. natalensis", "E. coli"],
    ["No DR", "Mild 1", "Moderate 2"],
    ["empty", "1 egg", "2 eggs"],
    ["2 x 4 lumber", "4 x 4 truck", "name tag", "class 2 lever", "class A"],
    ["ISO 128", "24 7 shop sign", "a /m/ cup", "«"],
]


@pytest.mark.parametrize(("names", "place", "form"), LISTS.values(), ids=LISTS)
def test_a_list_in_another_form_is_refused_wherever_it_comes_from(tmp_path, names, place, form):
    message = f"{re.escape(form)}.*; expected nothing but the name of a class"
    with pytest.raises(ValueError, match=rf"^class {place}: .*{message}"):
        as_vocabulary(names)
    path = tmp_path / "names.txt"
    path.write_text("# mine\n" + "\n".join(names) + "\n")
    with pytest.raises(ValueError, match=rf"names\.txt:{place + 2}: .*{message}"):
        read_class_names(path)
    with pytest.raises(ValueError, match=re.escape(form)):
        DetectionDataset(tmp_path, tmp_path, path).vocabulary  # noqa: B018


@pytest.mark.parametrize(
    "text", ["['cat', 'dog']", "0: cat, 1: dog", "cat. dog. sofa.", '"cat", "dog"', "1 cat, 2 dog"]
)
def test_a_typed_list_in_another_form_is_refused(text):
    with pytest.raises(ValueError, match="class 0: .* looks .*; expected nothing but the name of a class"):
        as_vocabulary(text)


def test_synonyms_are_names_too():
    with pytest.raises(ValueError, match="class 1: '- hound' looks like an item of a list"):
        Vocabulary.from_names([["cat"], ["dog", "- hound"]])
    assert len(Vocabulary.from_names([["cat", "0 cats"], ["dog", "1 dogs"]])) == 2


@pytest.mark.parametrize("names", NAMES, ids=" ".join)
def test_names_with_numbers_dots_and_quotes_are_names(tmp_path, names):
    assert as_vocabulary(names).class_names == tuple(names)
    (tmp_path / "names.txt").write_text("\n".join(names))
    assert read_class_names(tmp_path / "names.txt") == [[name] for name in names]


@pytest.mark.parametrize("path", sorted(CLASS_NAMES_FOLDER.glob("*.txt")), ids=lambda path: path.stem)
def test_the_lists_of_the_package_are_names(path):
    entries = read_class_names(path)
    assert Vocabulary.from_names([entry[0] for entry in entries], repeated_names=[entry[0] for entry in entries])


def test_a_very_long_name_takes_no_time():
    with time_limit(5):
        assert foreign_form(["a" + " " * 1_000_000 + "b", "cat"]) is None
