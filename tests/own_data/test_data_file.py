"""The grammar of data files: what each key means, and one line for each mistake."""

import numpy as np
import pytest
from own_files import NAMES, label_map, write_coco, write_color_masks, write_masks, write_photos, write_voc, write_yolo

from openvocab.own_data.data_file import read_data_file
from openvocab.registry import DATASETS


@pytest.fixture()
def folder(tmp_path):
    """Photos with label maps, boxes and outlines."""
    write_photos(tmp_path / "photos")
    write_masks(tmp_path / "masks")
    write_color_masks(tmp_path / "colors")
    write_voc(tmp_path / "boxes")
    write_yolo(tmp_path / "yolo")
    write_coco(tmp_path / "coco.json")
    return tmp_path


def read(folder, text):
    (folder / "my.yaml").write_text(text)
    return read_data_file(folder / "my.yaml")


def first(data, part="train", task="segmentation"):
    folder = next(iter(data.parts.values())).images.parent / "keys"
    return DATASETS.build(data.dataset(part, task, folder))[0]["sample"]


def test_images_labels_and_names_are_enough(folder):
    data = read(folder, "images: photos\nlabels: masks\nnames: [red box; crimson box, blue box]\n")
    sample = first(data)
    assert sample.vocabulary.synonyms == (("red box", "crimson box"), ("blue box",))
    np.testing.assert_array_equal(sample.label_map.numpy(), label_map(0))
    assert data.task() == "segmentation" and list(data.parts) == ["train"]


def test_ids_may_have_gaps_and_names_may_be_lists(folder):
    write_masks(folder / "masks", ground=7)
    text = "images: photos\nlabels: masks\nnames: {7: other, 0: [red box, crimson box], 1: blue box}\nbackground: other"
    sample = first(read(folder, text))
    assert sample.vocabulary.class_names == ("red box", "blue box", "other") and sample.vocabulary.background == 2
    np.testing.assert_array_equal(sample.label_map.numpy(), label_map(0, ground=2))


def test_unlabeled_ids_and_colors(folder):
    write_masks(folder / "masks", ground=9)
    sample = first(read(folder, f"images: photos\nlabels: masks\nnames: {NAMES}\nunlabeled: 9\n"))
    np.testing.assert_array_equal(sample.label_map.numpy(), label_map(0))
    colors = "colors: {blue box: [30, 30, 200], red box: '#c81e1e'}\nunlabeled: ['#000000']\n"
    sample = first(read(folder, f"images: photos\nlabels: colors\nnames: {NAMES}\n{colors}"))
    np.testing.assert_array_equal(sample.label_map.numpy(), label_map(0))


def test_outlines_need_no_names_and_have_a_background(folder):
    sample = first(read(folder, "images: photos\nlabels: coco.json\n"))
    np.testing.assert_array_equal(sample.label_map.numpy(), label_map(0))
    text = f"images: photos\nlabels: coco.json\nnames: {[*NAMES, 'other']}\nbackground: other\n"
    np.testing.assert_array_equal(first(read(folder, text)).label_map.numpy(), label_map(0, ground=2))


def test_labels_that_are_not_among_the_names_are_dropped_if_the_file_says_so(folder):
    for labels, task in (("coco.json", "detection"), ("coco.json", "segmentation"), ("masks", "segmentation")):
        text = f"images: photos\nlabels: {labels}\nnames: [red box]\n"
        with pytest.raises(ValueError, match="unlisted_ids"):
            first(read(folder, text), task=task)
        sample = first(read(folder, f"{text}unlisted_ids: ignore\n"), task=task)
        if task == "detection":
            assert sample.instances.classes.tolist() == [0]
        else:
            assert set(sample.label_map.unique().tolist()) == {0, 255}


def test_splits_are_lists_or_folders(folder):
    (folder / "train.txt").write_text("photo 3\n")
    write_photos(folder / "more", [5])
    splits = "splits:\n  train: train.txt\n  test: {images: more, labels: boxes}\n"
    data = read(folder, f"images: photos\nlabels: boxes\n{splits}")
    assert list(data.parts) == ["train", "test"] and data.task() == "detection"
    assert [first(data, part, "detection").image_path[-5] for part in data.parts] == ["3", "5"]


def test_path_moves_everything(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("elsewhere")
    (other / "names.txt").write_text("x\ny\n")
    (folder / "names.txt").write_text("red box;crimson box\nblue box\n")
    data = read(other, f"path: {folder}\nimages: photos\nlabels: yolo\nnames: names.txt\n")
    assert first(data, task="detection").vocabulary.class_names == tuple(NAMES)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("- a\n", "expected a mapping"),
        ("images: [", "is not YAML"),
        ("imges: photos\n", "unknown key 'imges'; did you mean 'images'"),
        ("images: photos\nlabels: masks\n", "names: label maps hold numbers only"),
        ("images: nowhere\nlabels: masks\nnames: [a]\n", "images: no folder .*nowhere"),
        ("images: photos\nlabels: nowhere\nnames: [a]\n", "labels: no file or folder"),
        ("labels: masks\nnames: [a]\n", "images: expected a path"),
        ("path: nowhere\nimages: photos\nlabels: masks\nnames: [a]\n", "path: no folder"),
        ("images: photos\nlabels: masks\nnames: [a, a]\n", "names: .*given twice"),
        ("images: photos\nlabels: masks\nnames: {0: a, 00: b}\n", "an id is given twice"),
        ("images: photos\nlabels: masks\nnames: [a, '']\n", "expected a name, or names"),
        ("images: photos\nlabels: masks\nnames: 3.5\n", "names: no class list '3.5' and no such file"),
        ("images: photos\nlabels: masks\nnames: [a, b]\nbackground: c\n", "'c' is not among the 2 class names"),
        ("images: photos\nlabels: masks\nnames: [a, b]\nsplits: {val: x.txt}\n", "splits: expected a mapping with"),
        ("images: photos\nlabels: masks\nnames: [a, b]\nsplits: {train: x.txt}\n", "list: no file .*x.txt"),
        ("images: photos\nlabels: masks\nnames: [a, b]\nsplits: {train: {image: x}}\n", "unknown key 'image'"),
        ("images: photos\nlabels: colors\nnames: [a, b]\ncolors: {a: [1, 2, 3]}\n", "no color for 'b'"),
        ("images: photos\nlabels: colors\nnames: [a, b]\ncolors: [red, blue]\n", "'#rrggbb', got 'red'"),
        ("images: photos\nlabels: boxes\nunlisted_ids: drop\n", "unlisted_ids: expected one of raise, ignore"),
        ("images: photos\nlabels: boxes\nunlabeled: 3\n", "only label maps have it, and the labels are Pascal VOC"),
        ("images: photos\nlabels: yolo\nnames: {1: a, 2: b}\n", "go from 0 without gaps"),
        ("images: photos\ntrain: photos\nlabels: masks\n", "write the parts under 'splits'"),
        ("train: nowhere/images\nnames: [a]\n", "train: no folder or list"),
        ("train: photos\nval: nothing\nnames: [a]\n", "val: no folder or list"),
        ("train: [photos, more]\nnames: [a]\n", "put several folders into one"),
        ("val: photos\nnames: [a]\n", "expected 'train'"),
        ("images: photos\nlabels: my.yaml\n", "labels: .*my.yaml is no file of COCO"),
        ("images: !!python/object/apply:os.system [ls]\n", "is not YAML"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_file(folder, text, line):
    with pytest.raises((ValueError, FileNotFoundError), match=line) as caught:
        read(folder, text)
    assert "my.yaml" in str(caught.value) and "\n" not in str(caught.value)


def test_data_that_fits_two_tasks_or_another_asks(folder):
    with pytest.raises(ValueError, match="pass --task detection or --task segmentation"):
        read(folder, "images: photos\nlabels: coco.json\n").task()
    with pytest.raises(ValueError, match="its labels are Pascal VOC, which do not fit segmentation; --head vild"):
        read(folder, "images: photos\nlabels: boxes\n").task("segmentation")
