"""`openvocab data check|stats|show`: what is wrong with a user's files, what is in them, and how they are seen."""

import json
import shutil

import numpy as np
import pytest
import torch
from own_files import (
    BOXES,
    COLORS,
    NAMES,
    coco,
    label_map,
    write_coco,
    write_masks,
    write_photos,
    write_voc,
    write_yolo,
)
from PIL import Image
from tool_runs import run_command

from openvocab.commands import data as data_command
from openvocab.structures import TextFeatures


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The user's working folder: mine/ with label maps, split into train and val."""
    for part, indices in (("train", range(4)), ("val", range(4, 6))):
        write_photos(tmp_path / "mine/images" / part, indices)
        write_masks(tmp_path / "mine/masks" / part, indices)
    (tmp_path / "mine/names.txt").write_text("\n".join(NAMES))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lines_of(capfd, *words):
    """Return the exit code and the lines of a command."""
    code = run_command("data", *words)
    return code, capfd.readouterr().out.splitlines()


def findings(capfd, *words):
    """Return the exit code and the findings of a check: between the counts and the last line."""
    code, lines = lines_of(capfd, "check", *words)
    found = lines[lines.index("") + 1 : -1]
    assert lines[-1].startswith(f"findings: {len(found)}; ")
    assert ("a training would stop" in lines[-1]) == (code == 1)
    return code, found


def test_good_data_has_no_findings(folder, capfd):
    assert findings(capfd, "mine") == (0, [])


def test_a_check_shows_the_counts_of_stats_first(folder, capfd):
    counts = lines_of(capfd, "stats", "mine")[1]
    assert len(counts) == 7 and lines_of(capfd, "check", "mine")[1][:7] == counts


def test_every_mistake_in_label_maps_is_one_line(folder, capfd):
    masks, images = folder / "mine/masks", folder / "mine/images"
    pixels = label_map(0)
    pixels[0, :3] = [7, 7, 9]
    Image.fromarray(pixels).save(masks / "train/photo 0.png")
    Image.fromarray(label_map(1)[:-1]).save(masks / "train/photo 1.png")
    (images / "train/photo 2.png").write_bytes(b"no image")
    shutil.copy(images / "train/photo 3.png", images / "val/photo 9.png")
    shutil.copy(masks / "train/photo 3.png", masks / "val/photo 9.png")
    shutil.copy(images / "val/photo 4.png", images / "val/photo x.png")
    code, lines = findings(capfd, "mine")
    assert code == 1
    assert lines[0] == (
        f"error: train: 1 images cannot be read: mine/images/train/photo 2.png (not an image that can be decoded "
        f"(starts with {b'no image'!r}))"
    )
    assert lines[1].startswith(
        "error: train: 1 label files cannot be used: mine/masks/train/photo 1.png (the label map"
    )
    assert lines[2] == ("error: train: 1 label maps have values without a name (7, 9): mine/masks/train/photo 0.png")
    assert lines[3] == "error: val: 1 images have no labels: mine/images/val/photo x.png"
    assert lines[4:] == [
        "warning: train and val: 1 images are in both: mine/images/train/photo 3.png = mine/images/val/photo 9.png"
    ]


def test_label_maps_without_an_image_stop_a_training(folder, capfd):
    write_masks(folder / "mine/masks/train", [5])
    code, lines = findings(capfd, "mine")
    assert code == 1 and "error: train: 1 labels have no image: mine/masks/train/photo 5.png" in lines


def test_near_duplicates_across_parts_and_copies_within_one(folder, capfd):
    images, masks = folder / "mine/images", folder / "mine/masks"
    with Image.open(images / "train/photo 1.png") as photo:
        photo.resize((90, 60)).save(images / "val/larger.jpg", quality=80)
    Image.fromarray(np.zeros((60, 90), np.uint8)).save(masks / "val/larger.png")
    shutil.copy(images / "train/photo 1.png", images / "train/copy.png")
    shutil.copy(masks / "train/photo 1.png", masks / "train/copy.png")
    code, lines = findings(capfd, "mine")
    assert code == 0 and len(lines) == 2
    assert "warning: train: 1 images are copies of others: " in lines[0] and "copy.png" in lines[0]
    assert "train and val: 1 images look the same in both: mine/images/train/" in lines[1] and "larger.jpg" in lines[1]


def test_classes_without_labels_and_classes_of_val_alone(folder, capfd):
    (folder / "mine/names.txt").write_text("\n".join([*NAMES, "zebra"]))
    for index in range(4):
        Image.fromarray(np.where(label_map(index) == 1, 255, label_map(index)).astype(np.uint8)).save(
            folder / f"mine/masks/train/photo {index}.png"
        )
    code, lines = findings(capfd, "mine")
    assert code == 0 and lines == [
        "warning: train: 2 classes have no labels: blue box, zebra",
        "warning: val: 1 classes are not in train: blue box",
    ]


def test_boxes_that_are_empty_or_beyond_their_image(folder, capfd):
    write_photos(folder / "boxes/images")
    content = coco(polygons=False)
    for annotation, box in zip(content["annotations"], [[5, 5, 0, 9], [70, 5, 9, 9], [50, 5, 30, 9], [1, 1, "nan", 3]]):
        annotation["bbox"] = box
    content["images"].append(dict(id=9, file_name="gone.png", width=60, height=40))
    shutil.copy(folder / "boxes/images/photo 0.png", folder / "boxes/images/new.png")
    (folder / "boxes/labels.json").write_text(json.dumps(content))
    code, lines = findings(capfd, "boxes", "--task", "detection")
    assert code == 1
    for line in (
        "error: train: 1 images cannot be read: boxes/images/gone.png (No such file or directory)",
        "error: train: 1 labels have no image: boxes/images/gone.png",
        "warning: train: 1 images have no labels: boxes/images/new.png",
        "warning: train: 1 boxes with coordinates that are not finite: photo 1.png",
        "warning: train: 1 boxes of zero or negative size: photo 0.png",
        "warning: train: 1 boxes entirely outside their image: photo 0.png",
        "warning: train: 1 boxes that extend beyond their image: photo 1.png",
    ):
        assert line in lines


@pytest.mark.parametrize("write", [write_yolo, write_voc])
def test_label_files_that_cannot_be_read_are_listed_with_their_reason(folder, capfd, write):
    write_photos(folder / "boxes/images")
    write(folder / "boxes/labels")
    (folder / "boxes/classes.txt").write_text("\n".join(NAMES))
    label_files = sorted((folder / "boxes/labels").iterdir())
    label_files[0].write_text("9 0.5 0.5 0.1 0.1" if write is write_yolo else "<annotation>")
    label_files[1].unlink()
    code, lines = findings(capfd, "boxes", "--task", "detection")
    assert code == 1 and lines[0].startswith("error: train: 1 label files cannot be used: boxes/labels/photo 0.")
    assert "warning: train: 1 images have no labels: boxes/images/photo 1.png" in lines


def test_data_that_cannot_be_read_at_all_is_a_finding(folder, capfd):
    for index in range(4):
        Image.fromarray(np.where(label_map(index) == 0, 0, 255).astype(np.uint8)).save(
            folder / f"mine/masks/train/photo {index}.png"
        )
    (folder / "mine/names.txt").write_text("red box\n")
    code, lines = findings(capfd, "mine")
    assert code == 1 and "error: train: 1 reason why it cannot be read: " in lines[0] and "label_ids" in lines[0]


def test_check_in_json_and_the_names_that_a_text_tower_confuses(folder, capfd, monkeypatch):
    def rows(vocabulary):
        return TextFeatures(torch.ones(len(vocabulary), 1), torch.tensor(100.0))

    monkeypatch.setattr(data_command, "_text_encoder", lambda name, accept_license: rows)
    assert run_command("data", "check", "mine", "--model", "clip-vit-b16", "--json") == 0
    answer = json.loads(capfd.readouterr().out)
    assert answer["kind"] == "label maps" and answer["task"] == "segmentation" and answer["stops"] is False
    assert answer["findings"] == [
        {
            "part": "names",
            "what": "pairs of names that clip-vit-b16 hardly tells apart",
            "count": 1,
            "examples": ["red box ~ blue box (1.000)"],
            "stops": False,
        }
    ]


def test_stats_count_pixels_and_boxes(folder, capfd):
    code, lines = lines_of(capfd, "stats", "mine")
    red = [(y2 - y1) * (x2 - x1) for (x1, y1, x2, y2), _ in BOXES]
    assert code == 0 and lines[1].split() == "class train images train pixels val images val pixels".split()
    assert lines[2].split() == ["red", "box", "4", str(sum(red[:4])), "2", str(sum(red[4:]))]
    assert lines[-1] == "val: 2 images, 60 pixels wide, 40 high"
    write_photos(folder / "boxes/images")
    write_coco(folder / "boxes/labels.json")
    assert run_command("data", "stats", "boxes", "--task", "detection", "--json") == 0
    answer = json.loads(capfd.readouterr().out)
    assert answer["parts"]["train"]["classes"]["blue box"] == {"images": 6, "boxes": 6}
    assert answer["parts"]["train"]["widths"] == {"least": 60, "median": 60.0, "largest": 60}


@pytest.mark.parametrize("task", ["segmentation", "detection"])
@pytest.mark.parametrize("part", ["train", "val"])
def test_show_draws_the_labels_of_samples(folder, capfd, task, part):
    if task == "detection":
        write_photos(folder / "boxes/images")
        write_coco(folder / "boxes/labels.json")
    source = "mine" if task == "segmentation" else "boxes"
    words = [source, "--task", task, "--part", part, "--out", "sheets/a.png", "--count", "3", "--json"]
    assert run_command("data", "show", *words) == 0
    answer = json.loads(capfd.readouterr().out)
    assert len(answer["samples"]) == {"train": 3, "val": 2 if task == "segmentation" else 1}[part]
    sheet = np.asarray(Image.open("sheets/a.png").convert("RGB")).astype(int)
    for color in COLORS:
        assert (np.abs(sheet - color).max(2) < 60).sum() > 500  # the rectangles of the photos, tinted or not
    assert sheet.shape[1] > 400


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["check", "nothing"], "no file or folder nothing"),
        (["check"], "the following arguments are required: DATA"),
        (["check", "mine", "--model", "clip-vit-b61"], "did you mean clip-vit-b16"),
        (["show", "mine", "--part", "test"], "mine has no such part; expected train or val"),
        (["show", "mine", "--count", "0"], "--count: expected at least 1"),
        (["stats", "boxes"], "pass --task detection or --task segmentation"),
    ],
)
def test_a_mistake_is_one_line(folder, capfd, words, line):
    write_photos(folder / "boxes/images")
    write_coco(folder / "boxes/labels.json")
    assert run_command("data", *words) == 2
    shown = capfd.readouterr()
    assert shown.out == "" and line in [one for one in shown.err.splitlines() if "error: " in one][0]
    assert not (folder / "samples.png").exists()
