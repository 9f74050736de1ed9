"""A file of keys means the same samples to every dataset that takes one."""

import json
import unicodedata

import numpy as np
import pytest
from PIL import Image

from openvocab.datasets.detection import DetectionDataset
from openvocab.datasets.few_shot import FewShotDataset
from openvocab.datasets.files.image_label_pairs import find_listed, read_keys
from openvocab.datasets.segmentation import SegmentationDataset
from openvocab.datasets.transforms import LoadImage, PackSample

STEMS = ["image", "image (1)", "image (2)", "b/x", "b/y", "c/x"]


def _listed(tmp_path, text, keys, ids=()) -> list[str]:
    (tmp_path / "val.txt").write_text(text)
    shown = [f"{key}.jpg" for key in keys]
    return [keys[place] for place in find_listed(tmp_path / "val.txt", keys, shown, "photos", ids)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("image (1)\nimage (2)\n", ["image (1)", "image (2)"]),
        ("\n  image (2)  \r\n\r\nimage\n\n", ["image (2)", "image"]),
        ("b/x\n./b//y\n", ["b/x", "b/y"]),
        ("y\n", ["b/y"]),
        ("\ufeffimage\n", ["image"]),
    ],
)
def test_a_line_is_a_key_or_its_last_part(tmp_path, text, expected):
    assert _listed(tmp_path, text, STEMS) == expected


def test_flags_of_voc_go_where_the_list_has_them_in_every_line(tmp_path):
    assert _listed(tmp_path, "x -1\ny  1\nz  0\n", ["x", "y", "z"]) == ["x", "y", "z"]
    assert _listed(tmp_path, "x 1\ny 0\n", ["x", "y", "x 1", "y 0"]) == ["x 1", "y 0"]  # names that end in a number
    for text in ("x 1\ny\n", "x 2\ny 1\n", "x a 1\ny 1\n"):
        with pytest.raises(FileNotFoundError, match="are not in photos"):
            _listed(tmp_path, text, ["x", "y", "x a"])


def test_names_come_before_ids_and_a_list_is_not_of_both(tmp_path):
    keys, ids = ["2", "1", "7"], ["1", "2", "30"]
    assert _listed(tmp_path, "1\n2\n", keys, ids) == ["1", "2"]
    assert _listed(tmp_path, "1\n30\n", keys, ids) == ["2", "7"]
    with pytest.raises(FileNotFoundError, match=r"1 of the 2 samples .*'30' \(line 2\)"):
        _listed(tmp_path, "7\n30\n", keys, ids)


def test_a_list_that_fits_names_and_the_ids_of_other_images_is_refused(tmp_path):
    keys, ids = ["1", "2", "3", "4"], ["0", "1", "2", "3"]
    assert _listed(tmp_path, "0\n1\n", keys, ids) == ["1", "2"]
    assert _listed(tmp_path, "4\n1\n", keys, ids) == ["4", "1"]
    with pytest.raises(ValueError, match=r"val.txt:1: '1' may be 1.jpg or 2.jpg, by its name or by its id"):
        _listed(tmp_path, "1\n2\n", keys, ids)


def test_flags_stay_where_a_whole_line_is_a_name(tmp_path):
    with pytest.raises(FileNotFoundError, match="1 of the 2 samples .*'b 1'"):
        _listed(tmp_path, "a 1\nb 1\n", ["a", "a 1", "b"])


def test_a_name_in_two_folders_is_ambiguous_but_a_whole_path_is_not(tmp_path):
    with pytest.raises(ValueError, match=r"val\.txt:2: 'x' may be b/x\.jpg or c/x\.jpg; give the path"):
        _listed(tmp_path, "b/y\nx\n", STEMS)
    assert _listed(tmp_path, "x\nb/x\n", ["x", "b/x"]) == ["x", "b/x"]


@pytest.mark.parametrize("text", ["image\nb/x\nimage\n", "image\nb/y\ny\n"])
def test_a_sample_that_is_listed_twice_is_refused_with_both_lines(tmp_path, text):
    with pytest.raises(ValueError, match=r"val\.txt:3: .* was listed in line [12] already"):
        _listed(tmp_path, text, STEMS)


def test_accents_are_one_however_they_are_coded(tmp_path):
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    assert _listed(tmp_path, f"{apart}\n", [composed]) == [composed]


def test_lists_that_are_none_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="pairs: no file .*absent"):
        read_keys(tmp_path / "absent.txt", "pairs")
    (tmp_path / "val.txt").write_text("\n \n")
    with pytest.raises(ValueError, match=r"keys: .*val\.txt is empty"):
        read_keys(tmp_path / "val.txt")
    (tmp_path / "val.txt").write_bytes("x\n".encode("utf-16"))
    with pytest.raises(ValueError, match=r"val\.txt:1: not UTF-8 .*UTF-16"):
        read_keys(tmp_path / "val.txt")


def _segmentation(folder, **options):
    return SegmentationDataset("images", "masks", ["a", "b"], root=folder, **options)


def _coco(folder, **options):
    return DetectionDataset("images", "coco.json", root=folder, test_mode=True, **options)


def _yolo(folder, **options):
    return DetectionDataset("images", "yolo", ["a"], root=folder, test_mode=True, **options)


def _few_shot(folder, **options):
    pipeline = [LoadImage(), PackSample()]
    return FewShotDataset(
        "images", "masks", "pascal5i", 0, "test", pipeline, root=folder, episodes=dict(count=12), **options
    )


@pytest.fixture
def folder(tmp_path):
    for stem in STEMS:
        for kind, shape in (("images", (8, 8, 3)), ("masks", (8, 8))):
            (tmp_path / f"{kind}/{stem}.png").parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.ones(shape, np.uint8)).save(tmp_path / f"{kind}/{stem}.png")
        (tmp_path / f"yolo/{stem}.txt").parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"yolo/{stem}.txt").write_text("0 .5 .5 .2 .2\n")
    images = [{"id": 50 - n, "file_name": f"{stem}.png", "height": 8, "width": 8} for n, stem in enumerate(STEMS)]
    content = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "a"}]}
    (tmp_path / "coco.json").write_text(json.dumps(content))
    return tmp_path


@pytest.mark.parametrize("reader", [_segmentation, _coco, _yolo, _few_shot])
def test_every_data_set_reads_keys_alike(folder, reader):
    def chosen(text):
        (folder / "part.txt").write_text(text)
        dataset = reader(folder, keys="part.txt")
        paths = (dataset[index]["sample"].image_path for index in range(len(dataset)))
        return {path.removeprefix(f"{folder}/images/") for path in map(str, paths)}

    assert chosen("image (1)\nb/x\n") == {"image (1).png", "b/x.png"}
    assert chosen("y 1\nimage -1\n") == {"b/y.png", "image.png"}
    with pytest.raises(ValueError, match=r"'x' may be .*b/x\.png or .*c/x\.png"):
        chosen("x\n")
    with pytest.raises(ValueError, match="was listed in line 1 already"):
        chosen("image\nimage\n")
    with pytest.raises(FileNotFoundError, match="'image 1'"):
        chosen("image 1\nimage (1)\n")
