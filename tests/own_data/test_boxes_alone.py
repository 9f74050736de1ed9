"""Folders of boxes need no task; whatever could also be label maps asks for it, in one line."""

import json

import pytest
from own_files import NAMES, write_labelme, write_photos, write_yolo
from tool_runs import run_command

BOX = "0 0.5 0.5 0.2 0.2"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def task_of(capfd, *words):
    """Return the task that `openvocab data stats` finds, None with the line of its error."""
    code = run_command("data", "stats", *words, "--json")
    shown = capfd.readouterr()
    return (json.loads(shown.out)["task"], "") if code == 0 else (None, shown.err)


def yolo(folder, polygons=False):
    write_photos(folder / "mine/images")
    write_yolo(folder / "mine/labels", polygons=polygons)
    (folder / "mine/names.txt").write_text("\n".join(NAMES))
    return folder / "mine/labels"


def labelme(folder, keep):
    """Write labelme files of which only shapes of the types in `keep` stay."""
    write_photos(folder / "mine")
    write_labelme(folder / "mine")
    for path in (folder / "mine").glob("*.json"):
        content = json.loads(path.read_text())
        x1, y1, x2, y2 = 5, 4, 25, 20
        shapes = {
            "rectangle": [[x1, y1], [x2, y2]],
            "polygon": [[x1, y1], [x2, y1], [x2, y2]],
            "circle": [[15, 12], [18, 12]],
            "point": [[9, 9]],
        }
        content["shapes"] = [{"label": NAMES[0], "points": shapes[kind], "shape_type": kind} for kind in keep]
        path.write_text(json.dumps(content))


def test_yolo_boxes_are_for_detection(folder, capfd):
    labels = yolo(folder)
    (folder / "mine/names.txt").rename(labels / "classes.txt")
    (labels / "classes.txt").write_text("a name of six words here\n" + NAMES[0])
    assert task_of(capfd, "mine")[0] == "detection"


def test_lines_of_boxes_that_are_damaged_do_not_hide_the_task_from_a_check(folder, capfd):
    labels = yolo(folder)
    (labels / "photo 0.txt").write_text("0 0.5\n")
    (labels / "photo 1.txt").write_bytes(b"\xff\xfe\x00broken")
    assert run_command("data", "check", "mine") in (0, 1)
    assert "YOLO for detection" in capfd.readouterr().out


@pytest.mark.parametrize("line", ["0 0.1 0.1 0.5 0.1 0.5 0.5", f"{BOX} 0.9"])
def test_a_single_longer_yolo_line_is_ambiguous(folder, capfd, line):
    (yolo(folder) / "photo 5.txt").write_text(f"{BOX}\n{line}\n")
    task, error = task_of(capfd, "mine")
    assert task is None and "pass --task detection or --task segmentation" in error


def test_yolo_folders_without_any_object_are_ambiguous(folder, capfd):
    for path in yolo(folder).iterdir():
        path.write_text("")
    assert task_of(capfd, "mine")[0] is None


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        (["rectangle"], "detection"),
        (["rectangle", "point"], "detection"),
        (["rectangle", "polygon"], None),
        (["polygon"], None),
        (["rectangle", "circle"], None),
        (["point"], None),
    ],
)
def test_labelme_rectangles_alone_are_for_detection(folder, capfd, shapes, expected):
    labelme(folder, shapes)
    task, error = task_of(capfd, "mine")
    assert task == expected and (task is not None or "pass --task detection or --task segmentation" in error)
