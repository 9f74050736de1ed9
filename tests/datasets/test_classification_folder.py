"""One folder a class."""

import json
import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pytest

from openvocab.datasets import ClassificationFolder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, count in (("red circle", 2), ("blue star", 1), ("car", 1)):
        folder = tmp_path / "objects" / name
        folder.mkdir(parents=True)
        for index in range(count):
            cv2.imwrite(str(folder / f"{index}.png"), np.zeros((5, 7, 3), np.uint8))
    (tmp_path / "classes.txt").write_text("background\nred circle\nblue star\ncar; automobile\n")
    (tmp_path / "split.json").write_text(json.dumps({"seen": ["red circle"], "unseen": ["blue star", "background"]}))
    return tmp_path


def test_each_image_has_the_class_of_its_folder(root: Path):
    dataset = ClassificationFolder(
        "objects", "classes.txt", root=root, class_options=dict(leave_out=["background"], unseen="split.json")
    )
    samples = [dataset[index]["sample"] for index in range(len(dataset))]
    assert [sample.sample_id for sample in samples] == [
        "red circle/0.png",
        "red circle/1.png",
        "blue star/0.png",
        "car/0.png",
    ]
    assert [sample.class_ids for sample in samples] == [(0,), (0,), (1,), (2,)]
    vocabulary = samples[0].vocabulary
    assert vocabulary.synonyms == (("red circle",), ("blue star",), ("car", "automobile"))
    assert vocabulary.seen == (True, False, True)
    assert samples[3].original_size == (5, 7)
    assert dataset.metainfo["vocabulary_digest"] == vocabulary.digest


def test_folders_may_have_other_names_than_the_classes(root: Path):
    (root / "names.txt").write_text("disc\nasterisk\nvehicle\n")
    dataset = ClassificationFolder("objects", "names.txt", root=root, folders=["red circle", "blue star", "car"])
    assert dataset[2]["sample"].class_ids == (1,)
    assert dataset.vocabulary.seen is None
    with pytest.raises(ValueError, match="folders: expected 3, one per class, got 1"):
        len(ClassificationFolder("objects", "names.txt", root=root, folders=["car"]))
    with pytest.raises(ValueError, match="folders: folder 'car' is given for two classes"):
        len(ClassificationFolder("objects", "names.txt", root=root, folders=["car", "blue star", "car"]))


def test_photos_whose_names_differ_in_the_extension_are_two(root: Path):
    cv2.imwrite(str(root / "objects/car/0.jpg"), np.zeros((5, 7, 3), np.uint8))
    dataset = ClassificationFolder("objects", "classes.txt", root=root, class_options=dict(leave_out=["background"]))
    assert [dataset[index]["sample"].sample_id for index in (3, 4)] == ["car/0.jpg", "car/0.png"]


def test_a_class_without_folder_and_a_folder_without_class_are_named(root: Path):
    with pytest.raises(FileNotFoundError, match="background"):
        len(ClassificationFolder("objects", "classes.txt", root=root))
    (root / "objects" / "extra").mkdir()
    with pytest.raises(ValueError, match="belong to no class, such as 'extra'"):
        len(ClassificationFolder("objects", "classes.txt", root=root, class_options=dict(leave_out=["background"])))


def test_wrong_arguments_are_clear(root: Path):
    with pytest.raises(ValueError, match=r"leave_out: \['sky'\]"):
        len(ClassificationFolder("objects", "classes.txt", root=root, class_options=dict(leave_out=["sky"])))
    with pytest.raises(FileNotFoundError, match="no folder .*nowhere"):
        len(ClassificationFolder("nowhere", "classes.txt", root=root))
    (root / "wrong.json").write_text('{"other": []}')
    with pytest.raises(ValueError, match="neither 'unseen' nor 'novel'"):
        len(
            ClassificationFolder(
                "objects", "classes.txt", root=root, class_options=dict(leave_out=["background"], unseen="wrong.json")
            )
        )
    with pytest.raises(ValueError, match="unseen: 'lion' is not among the 4 class names"):
        len(ClassificationFolder("objects", "classes.txt", root=root, class_options=dict(unseen=["blue star", "lion"])))


def test_names_in_arguments_are_compared_as_all_names_are(root: Path):
    options = dict(
        root=root,
        class_options=dict(leave_out=["Background"], unseen=["Blue_Star"]),
        folders=["Red_Circle", "BLUE STAR", "car"],
    )
    dataset = ClassificationFolder("objects", "classes.txt", **options)
    assert dataset.vocabulary.class_names == ("red circle", "blue star", "car")
    assert dataset.vocabulary.seen == (True, False, True)
    assert [dataset[index]["sample"].sample_id for index in (0, 2)] == ["red circle/0.png", "blue star/0.png"]


def test_accents_in_the_names_of_folders_are_one_however_they_are_coded(tmp_path: Path):
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    _folders(tmp_path / "objects", apart, "tea")
    for options in (dict(classes=[composed, "tea"]), dict(classes=["coffee", "t"], folders=[composed, "tea"])):
        dataset = ClassificationFolder("objects", root=tmp_path, **options)
        assert [dataset[index]["sample"].class_ids for index in range(2)] == [(0,), (1,)]


def test_folders_that_differ_in_case_alone_are_told_apart_where_both_are_given(tmp_path: Path):
    _folders(tmp_path / "objects", "a", "A")
    dataset = ClassificationFolder("objects", ["small", "large"], root=tmp_path, folders=["a", "A"])
    assert [dataset.sample_id_of(index) for index in range(2)] == ["a/x.png", "A/x.png"]
    with pytest.raises(ValueError, match="'A' and 'a' are folders of one class"):
        len(ClassificationFolder("objects", ["a", "b"], root=tmp_path))


def test_classes_may_share_a_name_as_in_the_list_of_clips_notebook(tmp_path: Path):
    _folders(tmp_path / "objects", "n04008634", "n03773504")
    options = dict(classes=["missile", "missile"], root=tmp_path, folders="sorted")
    dataset = ClassificationFolder("objects", class_options=dict(repeated_names=["missile"]), **options)
    assert dataset.vocabulary.class_names == ("missile", "missile")
    assert [dataset[index]["sample"].class_ids for index in range(2)] == [(0,), (1,)]
    with pytest.raises(ValueError, match="name 'missile' is given twice"):
        len(ClassificationFolder("objects", **options))


@pytest.mark.parametrize("parts", [["train", "val"], ["Test", "Training", "validation"], ["val"]])
def test_the_parts_of_a_data_set_are_no_classes(tmp_path: Path, parts: list[str]):
    _folders(tmp_path / "imagenet", *parts)
    names = ["cat", "dog", "car"][: len(parts)]
    with pytest.raises(ValueError, match=f"images: .*imagenet holds the parts .*images='imagenet/{parts[0]}'"):
        len(ClassificationFolder("imagenet", names, root=tmp_path, folders="sorted"))
    _folders(tmp_path / "imagenet", "bus")  # then they may be classes: "train" is one of COCO's
    assert len(ClassificationFolder("imagenet", [*names, "bus"], root=tmp_path, folders="sorted")) == len(parts) + 1


def test_sorted_folders_are_the_classes_in_order(root: Path):
    for old, new in (("red circle", "n02000000"), ("blue star", "n01000000"), ("car", "n03000000")):
        (root / "objects" / old).rename(root / "objects" / new)
    (root / "names.txt").write_text("tench\ngoldfish\nshark\n")
    dataset = ClassificationFolder("objects", "names.txt", root=root, folders="sorted")
    samples = [dataset[index]["sample"] for index in range(4)]
    assert [(sample.sample_id[:9], sample.class_ids) for sample in samples] == [
        ("n01000000", (0,)),
        ("n02000000", (1,)),
        ("n02000000", (1,)),
        ("n03000000", (2,)),
    ]
    with pytest.raises(ValueError, match="folders: expected 1000, one per class, got 3"):
        len(ClassificationFolder("objects", "imagenet_1k", root=root, folders="sorted"))
    with pytest.raises(ValueError, match="expected a list of names or 'sorted', got 'wordnet'"):
        len(ClassificationFolder("objects", "names.txt", root=root, folders="wordnet"))


def _folders(parent: Path, *names: str) -> None:
    for name in names:
        (parent / name).mkdir(parents=True)
        cv2.imwrite(str(parent / name / "x.png"), np.zeros((5, 7, 3), np.uint8))


@pytest.mark.parametrize("stem", ["", "class", "c-", "7_"])
def test_numbers_in_the_names_of_folders_sort_by_value_and_it_is_said(tmp_path: Path, logged, stem: str):
    order = [f"{stem}{number}" for number in range(12)]
    _folders(tmp_path / "objects", *order)
    (tmp_path / "names.txt").write_text("".join(f"name {number}\n" for number in range(12)))
    dataset = ClassificationFolder("objects", "names.txt", root=tmp_path, folders="sorted")
    assert [dataset[index]["sample"].sample_id for index in range(12)] == [f"{name}/x.png" for name in order]
    assert "are classes by number, not by letter: " + ", ".join(order[:8]) in logged[0].getMessage()


def test_names_that_no_number_tells_apart_keep_the_order_of_the_alphabet(tmp_path: Path, logged):
    names = sorted(["1a", "a1", "a-1", "a 1", "ab", "n01440764", "n01443537", "nx", "é2", "_1"])
    _folders(tmp_path / "objects", *names)
    (tmp_path / "names.txt").write_text("".join(f"name {number}\n" for number in range(len(names))))
    dataset = ClassificationFolder("objects", "names.txt", root=tmp_path, folders="sorted")
    assert [dataset[index]["sample"].sample_id.split("/")[0] for index in range(len(names))] == names
    assert [record.levelname for record in logged] == ["INFO"]


def test_names_of_folders_are_matched_without_case_and_underscores(tmp_path: Path):
    _folders(tmp_path / "objects", "Traffic_Light", "cat")
    (tmp_path / "names.txt").write_text("traffic light\ncat\ndog_house\n")
    dataset = ClassificationFolder("objects", "names.txt", root=tmp_path, class_options=dict(leave_out=["dog_house"]))
    assert dataset[0]["sample"].sample_id == "Traffic_Light/x.png"
    _folders(tmp_path / "objects", "traffic light")
    with pytest.raises(ValueError, match="'Traffic_Light' and 'traffic light' are folders of one class"):
        len(ClassificationFolder("objects", "names.txt", root=tmp_path, class_options=dict(leave_out=["dog_house"])))


def test_folders_without_images_are_named(root: Path, logged):
    options = dict(root=root, class_options=dict(leave_out=["background"]))
    len(ClassificationFolder("objects", "classes.txt", **options))
    (root / "objects/car/0.png").rename(root / "objects/car/.0.png")
    len(ClassificationFolder("objects", "classes.txt", **options))
    (root / "objects/blue star/0.png").rename(root / "objects/0.png")
    len(ClassificationFolder("objects", "classes.txt", **options))
    assert [(record.levelname, record.getMessage()) for record in logged] == [
        ("INFO", f"{root.name}/objects: 4 images, 3 classes"),
        ("WARNING", f"{root.name}/objects: 3 images, 3 classes; the folders of 1 classes hold no images: car"),
        (
            "WARNING",
            f"{root.name}/objects: 2 images, 3 classes; the folders of 2 classes hold no images: blue star, car; "
            f"1 images lie in no class folder; the first is {root}/objects/0.png",
        ),
    ]
