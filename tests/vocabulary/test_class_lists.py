"""The class lists and splits of the package."""

import json
import re

import pytest
from config_parts import REPOSITORY

from openvocab.vocabulary.class_lists import (
    CLASS_NAMES_FOLDER,
    SPLITS_FOLDER,
    class_names_path,
    list_of_names,
    load_frequencies,
    load_split,
)
from openvocab.vocabulary.vocabulary import Vocabulary, read_class_names

SIZES = {
    "ade20k_150": 150,
    "ade20k_847": 847,
    "pascal_voc_20": 20,
    "pascal_voc_21": 21,
    "pascal_context_59": 59,
    "pascal_context_60": 60,
    "pascal_context_459": 459,
    "coco_stuff_171": 171,
    "coco_80": 80,
    "coco_object_81": 81,
    "coco_panoptic_133": 133,
    "cityscapes_19": 19,
    "lvis_1203": 1203,
    "openimages_500": 500,
    "imagenet_1k": 1000,
    "clip_imagenet_1k": 1000,
    "groupvit_voc_21": 21,
    "groupvit_context_60": 60,
    "lseg_ade_150": 150,
    "lseg_pascal_20": 20,
    "lseg_coco_80": 80,
}
REPEATED = {
    "lseg_ade_150": ["screen"],
    "clip_imagenet_1k": ["missile", "sunglasses"],
    "openimages_500": ["bench", "mouse"],
}


WORDS = {
    "sclip_voc_21": ("voc21", 21),
    "sclip_voc_20": ("voc20", 20),
    "sclip_context_60": ("pc60", 60),
    "sclip_context_59": ("pc59", 59),
    "sclip_coco_object_81": ("coco_object", 81),
    "sclip_coco_stuff_171": ("coco_stuff171", 171),
    "sclip_cityscapes_19": ("cityscapes", 19),
    "sclip_ade20k_150": ("ade150", 150),
    "proxyclip_voc_21": ("voc21_proxyclip", 21),
    "proxyclip_voc_20": ("voc20_proxyclip", 20),
    "proxyclip_coco_object_81": ("coco_object_proxyclip", 81),
    "sfp_voc_21": ("voc21_sfp", 21),
    "sfp_voc_20": ("voc20_sfp", 20),
    "sfp_cityscapes_19": ("cityscapes_sfp", 19),
}
"""Class words of training-free papers: the published file of each, and its classes."""


def names_of(name):
    return read_class_names(class_names_path(name))


def size_of(name):
    return WORDS[name][1] if name in WORDS else SIZES[name.removesuffix("_synonyms")]


@pytest.mark.parametrize("name", sorted(WORDS))
def test_words_of_training_free_papers_are_the_published_ones(name, shared_data):
    published = json.loads((shared_data / f"meta/class_names/training_free/{WORDS[name][0]}.json").read_text())
    if "coco_object" in name:  # the class "bed" could never win against its twin
        assert published[60] == ["bed"]
        published[0].remove("bed")
    assert names_of(name) == published


def test_clips_names_of_imagenet_are_the_published_ones(shared_data):
    published = json.loads((shared_data / "meta/class_names/imagenet1k_openai.json").read_text())
    assert names_of("clip_imagenet_1k") == [[name] for name in published]


def test_clips_names_of_imagenet_differ_from_the_distinct_ones_by_two():
    pairs = zip(names_of("clip_imagenet_1k"), names_of("imagenet_1k"), strict=True)
    different = {index: (theirs[0], ours[0]) for index, (theirs, ours) in enumerate(pairs) if theirs != ours}
    assert different == {744: ("missile", "projectile"), 836: ("sunglasses", "sunglass")}


@pytest.mark.parametrize("file", sorted(CLASS_NAMES_FOLDER.glob("*.txt")), ids=lambda file: file.stem)
def test_every_list_is_a_vocabulary_of_its_size_and_states_its_source(file):
    names = read_class_names(file)
    repeated = REPEATED.get(file.stem, [])
    vocabulary = Vocabulary.from_names(names, repeated_names=repeated)
    assert len(vocabulary) == size_of(file.stem)
    assert len(set(vocabulary.class_names)) == size_of(file.stem) - len(repeated)
    first_line = file.read_text(encoding="utf-8").splitlines()[0]
    assert first_line.startswith("# ")
    assert "(MIT)" in first_line or "(Apache-2.0)" in first_line


def test_every_list_is_named_by_a_config_or_a_page():
    files = [*REPOSITORY.glob("configs/**/*.py"), *REPOSITORY.glob("docs/*.md")]
    named = set(re.findall(r"\w+", " ".join(file.read_text(encoding="utf-8") for file in files)))
    assert {file.stem for file in CLASS_NAMES_FOLDER.glob("*.txt")} <= named


@pytest.mark.parametrize("name", sorted(SIZES))
def test_plain_lists_have_one_name_a_class(name):
    assert all(len(entry) == 1 for entry in names_of(name))


def test_background_comes_first_where_a_list_has_it():
    for longer, shorter in (
        ("pascal_voc_21", "pascal_voc_20"),
        ("pascal_context_60", "pascal_context_59"),
        ("coco_object_81", "coco_80"),
    ):
        assert names_of(longer) == [["background"], *names_of(shorter)]
    assert names_of("coco_stuff_171")[:80] == names_of("coco_80") == names_of("coco_panoptic_133")[:80]


@pytest.mark.parametrize("name", ["ade20k_150", "ade20k_847", "lvis_1203", "coco_stuff_171", "pascal_context_459"])
def test_synonyms_are_in_the_order_of_the_plain_list(name):
    plain, synonyms = names_of(name), names_of(f"{name}_synonyms")
    agree = sum(one[0] in several for one, several in zip(plain, synonyms))
    assert agree > 0.93 * len(plain)


def test_spot_checks_of_the_order():
    assert names_of("ade20k_150")[12] == ["person"]
    assert names_of("ade20k_150")[149] == ["flag"]
    assert names_of("imagenet_1k")[207] == ["Golden Retriever"]
    assert names_of("lvis_1203")[1201] == ["zebra"]
    assert names_of("cityscapes_19")[13] == ["car"]


def test_lists_of_lseg_are_the_texts_of_its_weights():
    cut = {
        44: "chest", 56: "pool", 58: "screen", 64: "coffee", 73: "kitchen", 75: "swivel", 78: "arcade",
        89: "television", 91: "dirt", 105: "conveyer", 109: "swimming",
        123: "trade", 136: "traffic", 141: "crt", 144: "bulletin",
    }  # fmt: skip
    ours, theirs = ([entry[0] for entry in names_of(name)] for name in ("ade20k_150", "lseg_ade_150"))
    assert {index: name for index, name in enumerate(theirs) if name != ours[index]} == cut
    assert theirs[58] == theirs[130] == "screen"
    ours, theirs = ([entry[0] for entry in names_of(name)] for name in ("pascal_voc_20", "lseg_pascal_20"))
    assert {name for name in theirs if name not in ours} == {"diningtable", "pottedplant", "tvmonitor"}
    ours, theirs = ([entry[0] for entry in names_of(name)] for name in ("coco_80", "lseg_coco_80"))
    assert sum(one != other for one, other in zip(ours, theirs)) == 19
    assert (theirs[3], theirs[4], theirs[9], theirs[57]) == ("motorbike", "aeroplane", "trafficlight", "sofa")
    parts = load_split("fss1000")["parts"]
    assert {part: len(folders) for part, folders in parts.items()} == {"train": 520, "val": 240, "test": 240}
    assert all(folders == sorted(folders) for folders in parts.values())
    assert [folders[0] for folders in parts.values()] == ["ac_wall", "ab_wheel", "abe's_flyingfish"]


def test_few_shot_lists_of_lseg_are_the_published_ones(shared_data):
    published = json.loads((shared_data / "meta/splits/pascal5i_coco20i.json").read_text())
    for split, name in (("pascal5i", "lseg_pascal_20"), ("coco20i", "lseg_coco_80")):
        assert [entry[0] for entry in names_of(name)] == published[split]["classes"]
        assert load_split(split)["folds"] == [published[split]["folds"][str(fold)] for fold in range(4)]


def test_a_users_own_file_works_and_a_miss_lists_the_known_names(tmp_path):
    own = tmp_path / "mine.txt"
    own.write_text("cat\ndog\n")
    assert class_names_path(str(own)) == own
    with pytest.raises(ValueError, match="no class list 'ade151'.*ade20k_150, .*pascal_voc_21"):
        class_names_path("ade151")
    with pytest.raises(ValueError, match="no split 'nowhere.json'.*coco20i"):
        load_split("nowhere.json")


def test_a_name_cannot_leave_the_folder():
    with pytest.raises(ValueError, match="no class list"):
        class_names_path("../splits/pascal5i")


@pytest.mark.parametrize(("name", "classes", "size"), [("pascal5i", 20, 5), ("coco20i", 80, 20)])
def test_folds_part_the_classes(name, classes, size):
    split = load_split(name)
    folds = split["folds"]
    assert [len(fold) for fold in folds] == [size] * 4
    assert sorted(index for fold in folds for index in fold) == list(range(classes))
    assert len(names_of(split["classes"])) == classes


def test_fold_rules_differ():
    assert load_split("pascal5i")["folds"][1] == [5, 6, 7, 8, 9]
    assert load_split("coco20i")["folds"][1][:3] == [1, 5, 9]


@pytest.mark.parametrize(
    ("name", "classes", "base", "novel"), [("coco_48_17", "coco_80", 48, 17), ("lvis_866_337", "lvis_1203", 866, 337)]
)
def test_base_and_novel_are_names_of_the_list_and_disjoint(name, classes, base, novel):
    split = load_split(name)
    known = {entry[0] for entry in names_of(classes)}
    assert (len(split["base"]), len(split["novel"])) == (base, novel)
    assert set(split["base"]) | set(split["novel"]) <= known
    assert not set(split["base"]) & set(split["novel"])


def test_splits_state_their_source_and_a_users_own_file_works(tmp_path):
    for file in SPLITS_FOLDER.glob("*.json"):
        assert json.loads(file.read_text(encoding="utf-8"))["source"]
    own = tmp_path / "mine.json"
    own.write_text('{"unseen": ["cat"]}')
    assert load_split(own) == {"unseen": ["cat"]}
    own.write_text("[1]")
    with pytest.raises(ValueError, match="expected a JSON object, got list"):
        load_split(own)
    own.write_text("{")
    with pytest.raises(ValueError, match="is not JSON"):
        load_split(own)


def test_lists_are_the_published_ones(shared_data):
    published = shared_data / "meta/class_names"
    assert [entry[0] for entry in names_of("ade20k_150")] == [
        name.strip() for name in json.loads((published / "ade150.json").read_text())
    ]
    rows = json.loads((published / "lvis_v1_categories.json").read_text())
    assert [entry[0] for entry in names_of("lvis_1203")] == [row["name"].replace("_", " ") for row in rows]
    open_images = json.loads((published / "openimages_500.json").read_text())
    assert [entry[0] for entry in names_of("openimages_500")] == [row["name"].lower() for row in open_images]
    rare = {row["name"].replace("_", " ") for row in rows if row["frequency"] == "r"}
    assert set(load_split("lvis_866_337")["novel"]) == rare


@pytest.mark.parametrize("names", ["cat", 5, {"cat": 0}, {"cat"}, ["cat", 5], None])
def test_what_is_no_list_of_names_is_named_by_its_argument(names):
    with pytest.raises(ValueError, match="leave_out: expected a list of names, got "):
        list_of_names("leave_out", names)


def test_frequencies_are_found_by_names_as_all_names_are(tmp_path):
    (tmp_path / "f.json").write_text('{"rare": ["stop_sign"], "common": [], "frequent": ["Caf\u00e9"]}')
    assert load_frequencies("f.json", ["cafe\u0301", "Stop Sign"], tmp_path) == ["f", "r"]
