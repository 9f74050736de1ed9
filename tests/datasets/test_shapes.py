"""The Shapes world on disk: what is promised of its bytes, its labels, its words and its unseen classes."""

import json
import multiprocessing
import os
import re
import runpy
import signal
import sys
import time
from collections import Counter
from itertools import chain, product
from pathlib import Path

import cv2
import numpy as np
import pytest
from bounded_processes import started
from pycocotools import mask as coco_mask

from openvocab.datasets.shapes.captions import RELATIONS, plural
from openvocab.datasets.shapes.classes import CLASS_NAMES, COLORS, FORMS, SEEN, UNSEEN
from openvocab.datasets.shapes.drawing import HUE_JITTER, HUES, TINT, draw, hsv
from openvocab.datasets.shapes.forms import OUTLINES, REACH, coverage_patch
from openvocab.datasets.shapes.plan import SPLITS, Picture, ShapesParameters, make_scene, plan
from openvocab.datasets.shapes.random_stream import RandomStream
from openvocab.datasets.shapes.raster import polygon_coverage
from openvocab.datasets.shapes.scene import MIN_VISIBLE_FRACTION, MIN_VISIBLE_PIXELS, Scene, sample_scene
from openvocab.datasets.shapes.writing import write_shapes
from openvocab.process.group_signals import POLL_SECONDS

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = dict(num_train=120, num_val=60, objects_per_class=1)
SMALL_DIGEST = "473eacfadb794db3c2d49ccdc50bee92507a38f3b062a09f763f86e20855f62f"


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "shapes"
    assert write_shapes(folder, processes=1, **SMALL)
    return folder


def _captions(root: Path, split: str) -> dict[str, list[str]]:
    lines = (root / f"captions_{split}.jsonl").read_text().splitlines()
    return {row["image"]: row["captions"] for row in map(json.loads, lines)}


def _labels(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def _files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def _pairs_named(caption: str) -> set[str]:
    """Class names in a caption, in any of its word orders, singular or plural."""
    colors, forms = "|".join(COLORS), "|".join(sorted((f for f in FORMS), key=len, reverse=True))
    before = {(c, f) for c, f in re.findall(rf"\b({colors}) ({forms})(?:s|es)?\b", caption)}
    after = {(c, f) for f, c in re.findall(rf"\b({forms}) (?:is|in|that is|of) ({colors})\b", caption)}
    return {f"{c} {f}" for c, f in before | after}


def _scenes(split: str) -> list[tuple[Picture, Scene]]:
    """Pictures of the small dataset with their scenes, sampled anew."""
    chosen = [picture for picture in plan(ShapesParameters(**SMALL)) if picture.split == split]
    return [(picture, make_scene(picture, RandomStream(0, SPLITS[split], picture.index))) for picture in chosen]


# ---- bytes ----


def test_the_same_seed_gives_the_same_bytes_for_any_number_of_processes(root, tmp_path):
    write_shapes(tmp_path / "again", processes=2, **SMALL)
    assert _files(tmp_path / "again") == _files(root)


def test_the_default_seed_gives_the_bytes_it_always_gave(root):
    """A change here means that every published figure on Shapes is void: raise FORMAT when it is wanted."""
    assert json.loads((root / "shapes.json").read_text())["digest"] == SMALL_DIGEST


def test_another_seed_gives_other_scenes(root, tmp_path):
    write_shapes(tmp_path / "other", seed=1, num_train=2, num_val=1, objects_per_class=0)
    for name in ("images/train/000001.jpg", "images/val/000001.jpg"):
        assert (tmp_path / "other" / name).read_bytes() != (root / name).read_bytes()


def test_a_picture_does_not_depend_on_how_many_others_there_are(root, tmp_path):
    write_shapes(tmp_path / "less", num_train=2, num_val=1, objects_per_class=0)
    for name in ("images/train/000001.jpg", "images/val/000001.jpg"):
        assert (tmp_path / "less" / name).read_bytes() == (root / name).read_bytes()


# ---- classes ----


def test_a_quarter_of_the_pairs_is_unseen_and_each_color_and_form_is_met_in_several_seen_pairs():
    assert len(CLASS_NAMES) == 48 and len(UNSEEN) == 12 and set(SEEN) | set(UNSEEN) == set(range(48))
    seen = [CLASS_NAMES[k].split() for k in SEEN]
    assert min(sum(color == c for c, _ in seen) for color in COLORS) >= 4
    assert min(sum(form == f for _, f in seen) for form in FORMS) >= 4


def test_class_and_split_files_list_all_names(root):
    assert (root / "classes.txt").read_text().splitlines() == ["background", *CLASS_NAMES]
    split = json.loads((root / "split.json").read_text())
    assert sorted(split["seen"] + split["unseen"]) == sorted(CLASS_NAMES) and len(split["unseen"]) == 12


def test_no_unseen_object_is_in_the_dense_training_part(root):
    unseen = {CLASS_NAMES[k] for k in UNSEEN}
    captions = _captions(root, "train")
    label_files = sorted((root / "annotations/train").glob("*.png"))
    assert len(label_files) == 60
    for path in label_files:
        assert not set(np.unique(_labels(path))) & {k + 1 for k in UNSEEN}
        for caption in captions[f"images/train/{path.stem}.jpg"]:
            assert not _pairs_named(caption) & unseen
    instances = json.loads((root / "instances_train.json").read_text())
    assert {a["category_id"] - 1 for a in instances["annotations"]} <= set(SEEN)
    assert [image["file_name"] for image in instances["images"]] == [f"{path.stem}.jpg" for path in label_files]


def test_every_training_image_outside_the_dense_part_has_an_unseen_object():
    unseen = set(UNSEEN)
    for picture in plan(ShapesParameters(num_train=80, num_val=0, objects_per_class=0))[40:]:
        scene = make_scene(picture, RandomStream(0, 0, picture.index))
        assert unseen & {obj.class_id for obj in scene.objects}


def test_the_oracle_labels_are_as_many_as_the_dense_ones_and_cover_unseen_classes(root):
    paths = sorted((root / "annotations/train_oracle").glob("*.png"))
    assert len(paths) == 60 and not {p.name for p in paths} <= {p.name for p in (root / "annotations/train").iterdir()}
    found = set().union(*(np.unique(_labels(path)).tolist() for path in paths))
    assert len({k + 1 for k in UNSEEN} & found) >= 10


def test_every_class_is_in_val_and_has_single_objects(root):
    found = set().union(*(np.unique(_labels(path)).tolist() for path in (root / "annotations/val").iterdir()))
    assert found == set(range(49))
    assert {path.name for path in (root / "objects/val").iterdir()} == set(CLASS_NAMES)
    assert all(len(list(path.glob("*.jpg"))) == 1 for path in (root / "objects/val").iterdir())


# ---- labels ----


@pytest.mark.parametrize("split", ["train", "train_oracle", "val"])
def test_label_maps_agree_with_instance_masks_and_boxes(root, split):
    coco = json.loads((root / f"instances_{split}.json").read_text())
    maps = {image["id"]: np.zeros((64, 64), np.uint8) for image in coco["images"]}
    for note in coco["annotations"]:
        mask = coco_mask.decode(note["segmentation"]).astype(bool)
        assert not maps[note["image_id"]][mask].any(), "two objects claim a pixel"
        maps[note["image_id"]][mask] = note["category_id"]
        assert note["area"] == mask.sum() >= MIN_VISIBLE_PIXELS
        assert note["bbox"] == coco_mask.toBbox(note["segmentation"]).tolist()
    for image in coco["images"]:
        drawn = _labels(root / f"annotations/{split}" / image["file_name"].replace(".jpg", ".png"))
        assert drawn.dtype == np.uint8 and (drawn == maps[image["id"]]).all()
        folder = root / "images" / split.removesuffix("_oracle")
        assert cv2.imread(str(folder / image["file_name"])).shape == (64, 64, 3)


def test_every_object_shows_its_fair_part():
    for index in range(60):
        scene = sample_scene(RandomStream(5, index), [index % 48, 3, 10, 20, 33])
        for number, area in enumerate(scene.areas):
            seen = int(scene.visible_mask(number).sum())
            assert seen >= max(MIN_VISIBLE_PIXELS, MIN_VISIBLE_FRACTION * area)


def test_an_object_can_be_told_from_what_lies_around_it():
    """The color inside a mask differs from the color just outside it, for nearly all objects."""
    contrasts = []
    for picture in plan(ShapesParameters(num_train=0, num_val=60, objects_per_class=0)):
        stream = RandomStream(0, 1, picture.index)
        scene = make_scene(picture, stream)
        image = draw(scene, stream).astype(float)
        for number in range(len(scene.objects)):
            inside = scene.visible_mask(number)
            around = cv2.dilate(inside.astype(np.uint8), np.ones((7, 7))).astype(bool) & ~inside
            contrasts.append(np.linalg.norm(np.median(image[inside], 0) - np.median(image[around], 0)))
    assert np.percentile(contrasts, 5) > 30


def test_no_two_color_names_meet_under_jitter_and_lamp():
    """Hue ranges, after the worst tint of the lamp, keep apart."""
    ranges = []
    for name in [c for c in COLORS if c != "white"]:
        hues = []
        for hue in (HUES[name] - HUE_JITTER, HUES[name] + HUE_JITTER):
            for corner in range(8):
                tint = [1 + TINT * (1 if corner >> bit & 1 else -1) for bit in range(3)]
                rgb = np.float32([[np.array(hsv(hue, 1, 1)) * tint]])
                lit = float(cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)[0, 0, 0])
                hues.append((lit - HUES[name] + 180) % 360 - 180 + HUES[name])
        ranges.append((min(hues), max(hues)))
    for (_, high), (low, _) in zip(ranges, ranges[1:] + [(ranges[0][0] + 360, 0)]):
        assert high < low


# ---- captions ----


@pytest.mark.parametrize("split", ["train", "val"])
def test_captions_are_varied_and_name_only_what_is_there(root, split):
    written = _captions(root, split)
    for picture, scene in _scenes(split):
        present = {obj.name for obj in scene.objects}
        captions = written[picture.path]
        assert 4 <= len(captions) <= 5 and len(set(captions)) == len(captions)
        assert all(_pairs_named(caption) and _pairs_named(caption) <= present for caption in captions)
        assert _pairs_named(captions[0]) == present


def test_unseen_pairs_are_named_in_training_captions(root):
    named = set().union(*(_pairs_named(c) for cs in _captions(root, "train").values() for c in cs))
    assert {CLASS_NAMES[k] for k in UNSEEN} <= named


def test_relations_between_two_objects_are_told_right(root):
    """Each half of such a caption names one object; their places and their order from back to front must fit."""
    right = {
        "left": lambda a, b: a[1].center[1] < b[1].center[1],
        "right": lambda a, b: a[1].center[1] > b[1].center[1],
        "above": lambda a, b: a[1].center[0] < b[1].center[0],
        "below": lambda a, b: a[1].center[0] > b[1].center[0],
        "behind": lambda a, b: a[0] < b[0],
        "front": lambda a, b: a[0] > b[0],
    }
    checked = Counter()
    written = _captions(root, "val")
    for picture, scene in _scenes("val"):
        objects, captions = list(enumerate(scene.objects)), written[picture.path]
        for relation, caption, phrase in product(right, captions, chain(*RELATIONS.values())):
            halves = caption.split(f" {phrase} ")
            if phrase not in RELATIONS[relation] or len(halves) != 2:
                continue
            first, second = ([o for o in objects if {o[1].name} == _pairs_named(half)] for half in halves)
            if len(first) == len(second) == 1:
                assert right[relation](first[0], second[0]), caption
                checked[relation] += 1
    assert set(checked) == set(right)


def test_plurals():
    assert [plural(f"red {form}") for form in ("circle", "cross")] == ["red circles", "red crosses"]


# ---- drawing ----


def test_coverage_of_a_rectangle_is_exact():
    box = np.array([(1.25, 1.0), (4.5, 1.0), (4.5, 3.5), (1.25, 3.5)])
    expected = np.outer([0, 1, 1, 0.5, 0], [0, 0.75, 1, 1, 0.5, 0]) * 255
    assert np.abs(polygon_coverage([box], 5, 6) - expected).max() <= 1


def test_a_polygon_may_reach_beyond_the_canvas():
    box = np.array([(-9.0, -9.0), (2.0, -9.0), (2.0, 20.0), (-9.0, 20.0)])
    covered = polygon_coverage([box], 4, 4)
    assert (covered[:, :2] == 255).all() and not covered[:, 2:].any()


@pytest.mark.parametrize("form", FORMS)
def test_every_form_covers_its_area_at_any_angle_and_place(form):
    def area(points: np.ndarray) -> float:
        x, y = points.T
        return abs(float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))) / 2

    outer, *holes = OUTLINES[form]
    assert np.hypot(*outer.T).max() <= REACH + 1e-6
    expected = (area(outer) - sum(map(area, holes))) * 12**2
    for degrees, center in ((0, (32.0, 32.0)), (37, (10.3, 40.7)), (180, (0.0, 63.5))):
        patch, _ = coverage_patch(form, center, 24.0, degrees)
        assert abs(patch.sum() / 255 - expected) < 0.02 * expected


def test_forms_of_one_diameter_have_similar_areas():
    areas = [coverage_patch(form, (32, 32), 24.0, 0)[0].sum() for form in FORMS]
    assert max(areas) < 2 * min(areas)


def test_random_stream_is_uniform_and_keeps_its_promises():
    stream = RandomStream(1, 2, 3)
    draws = np.array([stream.fraction() for _ in range(4000)])
    assert 0 <= draws.min() and draws.max() < 1 and abs(draws.mean() - 0.5) < 0.02
    assert {stream.integer(2, 4) for _ in range(100)} == {2, 3, 4}
    assert sorted(stream.shuffled(range(9))) == list(range(9))
    assert stream.bytes(3, 5).shape == (3, 5) and abs(stream.bytes(9000).mean() - 127.5) < 3


# ---- the folder and the tool ----


def test_a_complete_folder_is_kept_and_another_is_refused(root):
    before = (root / "classes.txt").stat().st_mtime_ns
    assert not write_shapes(root, **SMALL)
    assert (root / "classes.txt").stat().st_mtime_ns == before
    with pytest.raises(FileExistsError, match="seed 0 instead of 3"):
        write_shapes(root, seed=3, **SMALL)


def test_a_foreign_folder_is_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(FileExistsError, match="not a Shapes dataset"):
        write_shapes(tmp_path, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_nothing_is_left_of_a_run_that_failed(tmp_path):
    def stop(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shapes(tmp_path / "shapes", num_train=4, num_val=0, objects_per_class=0, progress=stop)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("wrong", ["seed", "num_train", "num_val", "objects_per_class"])
def test_negative_numbers_are_refused(tmp_path, wrong):
    with pytest.raises(ValueError, match=f"{wrong}: expected 0 or more, got -1"):
        write_shapes(tmp_path / "shapes", **{**SMALL, wrong: -1})


@pytest.mark.parametrize("processes", [0, -1])
def test_a_number_of_processes_that_cannot_be_is_refused(tmp_path, processes):
    with pytest.raises(ValueError, match=f"processes: expected 1 or more, got {processes}"):
        write_shapes(tmp_path / "shapes", processes=processes, **SMALL)


def test_a_drawing_process_that_is_killed_is_one_error_and_leaves_nothing(tmp_path):
    before = set(multiprocessing.active_children())

    def kill_one(done, total):
        if done:
            os.kill((set(multiprocessing.active_children()) - before).pop().pid, signal.SIGKILL)

    with pytest.raises(ChildProcessError, match="a process that drew images was killed"):
        write_shapes(tmp_path / "shapes", **{**SMALL, "num_train": 2000}, processes=2, progress=kill_one)
    assert list(tmp_path.iterdir()) == [] and set(multiprocessing.active_children()) <= before


def test_drawing_processes_end_with_a_parent_that_is_killed(tmp_path):
    command = [sys.executable, str(REPOSITORY / "tools/make_shapes.py"), "--root", str(tmp_path / "shapes")]
    with started([*command, "--processes", "2"]) as tool:
        while not list(tmp_path.glob("shapes.*.saving/images/train/*")):
            time.sleep(0.05)
            assert tool.poll() is None
        tool.kill()
        tool.wait()
        end = time.monotonic() + POLL_SECONDS + 10
        while _is_alive(tool.pid):
            time.sleep(0.1)
            assert time.monotonic() < end


def _is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _run_tool(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["make_shapes.py", *arguments])
    runpy.run_path(str(REPOSITORY / "tools/make_shapes.py"), run_name="__main__")


def test_the_tool_makes_a_folder_from_the_command_line(tmp_path, monkeypatch, capfd):
    root = tmp_path / "made/shapes"
    options = ["--num-train", "20", "--num-val", "4", "--objects-per-class", "0", "--processes", "2"]
    _run_tool(monkeypatch, "--root", str(root), *options)
    shown = capfd.readouterr()
    assert "24/24" in shown.err and shown.out == f"{root} is complete\n"
    names = {str(Path(name).parent) for name in _files(root)}
    assert {"images/train", "images/val", "annotations/train", "annotations/train_oracle", "annotations/val"} <= names
    _run_tool(monkeypatch, "--root", str(root), *options)
    assert "already" in capfd.readouterr().out


@pytest.mark.parametrize("place", ["file", "file/shapes"])
def test_the_tool_says_in_one_line_why_it_cannot_write(tmp_path, monkeypatch, capfd, place):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stop:
        _run_tool(monkeypatch, "--root", str(tmp_path / place), "--num-train", "2", "--num-val", "0")
    error = capfd.readouterr().err
    assert stop.value.code == 2 and str(tmp_path / "file") in error and len(error.strip().splitlines()) == 1
