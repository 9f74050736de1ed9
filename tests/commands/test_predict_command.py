"""`openvocab predict`, from words to files that other programs read."""

import csv
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from config_parts import REPOSITORY, without_weights
from mmengine.registry import DefaultScope
from PIL import Image
from pycocotools.coco import COCO
from tool_runs import run_command

from openvocab.checkpoint.checkpoint import save_checkpoint
from openvocab.commands import predict
from openvocab.config.config import read_config
from openvocab.config.saved import config_to_data
from openvocab.registry import MODELS
from openvocab.results.formats import FORMATS
from openvocab.zoo import find_model

NAMES = "red circle, blue star, other"


def checkpoint_of(name, path):
    """Write a checkpoint of a random model, with its config."""
    torch.manual_seed(0)
    config = read_config(REPOSITORY / "configs" / f"{name}.py")
    config.model = without_weights(config.model.to_dict())
    with DefaultScope.overwrite_default_scope("openvocab"):
        model = MODELS.build(config.model)
    save_checkpoint({"state_dict": model.state_dict(), "meta": {"config": config_to_data(config)}}, path)
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Checkpoints of a segmenter and of a detector."""
    folder = tmp_path_factory.mktemp("models")
    return {name: checkpoint_of(name, folder / f"{name}.pth") for name in ("lseg_shapes", "vild_text_shapes")}


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A working folder with two photos and a broken one in a folder."""
    monkeypatch.chdir(tmp_path)
    Path("photos/inner").mkdir(parents=True)
    random = np.random.default_rng(0)
    for name in ("one.jpg", "inner/two.png"):
        Image.fromarray(random.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(f"photos/{name}")
    Path("photos/broken.jpg").write_bytes(b"")
    return tmp_path


def ask(models, *words, model="lseg_shapes"):
    return run_command("predict", *words, "--checkpoint", models[model], "--device", "cpu")


def test_one_photo_becomes_a_picture_and_two_lines(models, photos, capsys):
    assert ask(models, "photos/one.jpg", NAMES) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"photos/one.jpg: .*\d %", lines[0]) and lines[1] == "picture: predictions/one.png"
    assert Image.open("predictions/one.png").size[0] > 448
    assert ask(models, "photos/one.jpg", NAMES, "--out", "new/mine.jpg") == 0
    assert Image.open("new/mine.jpg").format == "JPEG"


def test_a_broken_photo_costs_itself_and_is_listed(models, photos, capsys):
    assert ask(models, "photos", NAMES) == 1
    captured = capsys.readouterr()
    assert sorted(map(str, Path("predictions").rglob("*.png"))) == ["predictions/inner/two.png", "predictions/one.png"]
    assert captured.err.splitlines() == [
        "error: photos/broken.jpg: the file is empty", "1 of 3 photos were skipped:", "  photos/broken.jpg",
    ]  # fmt: skip
    assert "(3 of 3, " in captured.out


@pytest.mark.parametrize("model", ["lseg_shapes", "vild_text_shapes"])
def test_every_format_is_written_for_a_folder(models, photos, capsys, model):
    Path("photos/broken.jpg").unlink()
    formats = [name for name in FORMATS if not (name == ("voc" if model == "lseg_shapes" else "label-png"))]
    options = [word for name in formats for word in ("--format", name)]
    assert ask(models, "photos", NAMES, *options, "--out", "out", model=model) == 0
    for name in formats:
        count = len([path for path in Path("out", name).rglob("*") if path.is_file()])
        assert count == (1 if name in ("coco", "csv") else 2)
    coco = COCO("out/coco/coco.json")
    assert [image["file_name"] for image in coco.imgs.values()] == ["photos/inner/two.png", "photos/one.jpg"]
    rows = list(csv.DictReader(open("out/csv/results.csv")))
    assert {row["image"] for row in rows} == {"photos/inner/two.png", "photos/one.jpg"}
    assert len(rows) == len(coco.anns)
    assert "all results: out/coco/coco.json" in capsys.readouterr().out


def test_json_is_all_that_stdout_holds(models, photos, capsys):
    assert ask(models, "photos", NAMES, "--json", "--format", "coco") == 1
    captured = capsys.readouterr()
    answer = json.loads(captured.out)
    assert [result["image"] for result in answer["results"]] == ["photos/inner/two.png", "photos/one.jpg"]
    assert answer["skipped"] == ["photos/broken.jpg"] and "inner/two.png: " in captured.err
    assert answer["results"][0]["names"] == ["red circle", "blue star", "other"]


def test_names_come_from_a_file_or_an_option(models, photos, capsys):
    Path("names.txt").write_text("red circle; red disc\nother\n")
    assert ask(models, "photos/one.jpg", "names.txt", "--format", "json", "--out", "a.json") == 0
    assert json.loads(Path("a.json").read_text())["names"] == ["red circle", "other"]
    assert ask(models, "photos/one.jpg", "photos/inner/two.png", "--classes", "sky", "--format", "label-png") == 0
    assert {path.name for path in Path("predictions").iterdir()} == {"one.png", "two.png"}


def test_a_single_name_that_gets_every_pixel_is_explained(models, photos, capsys):
    assert ask(models, "photos/one.jpg", "cat") == 0
    assert "a single name gets every pixel" in capsys.readouterr().err
    assert ask(models, "photos/one.jpg", "cat", model="vild_text_shapes") == 0
    assert ask(models, "photos/one.jpg", "cat, other") == 0
    assert capsys.readouterr().err == ""


def test_heat_tiles_and_scores(models, photos):
    assert ask(models, "photos/one.jpg", NAMES, "--heat", "blue star", "--out", "heat.png") == 0
    assert ask(models, "photos/one.jpg", NAMES, "--out", "plain.png") == 0
    assert Path("heat.png").read_bytes() != Path("plain.png").read_bytes()
    npz = ("--format", "npz", "--out")
    assert ask(models, "photos/one.jpg", NAMES, "--tile", "32", *npz, "tiles.npz") == 0
    assert np.load("tiles.npz")["label_map"].shape == (48, 64)
    for limit in ("0.1", "0.5"):
        assert (
            ask(models, "photos/one.jpg", NAMES, "--min-score", limit, *npz, f"{limit}.npz", model="vild_text_shapes")
            == 0
        )
    few, many = np.load("0.5.npz")["scores"], np.load("0.1.npz")["scores"]
    assert len(few) <= len(many) and (many >= 0.1).all() and (few >= 0.5).all()


@pytest.mark.parametrize(
    "words, message",
    [
        (["photos/one.jpg"], 'got one word; try: openvocab predict photos/one.jpg "cat, sofa"'),
        (["photos/one.jpg", "cat,", "sofa"], "the names are one text in quotes"),
        (["photos/one.jpg", "photos/inner/two.png"], "names: photos/inner/two.png is a file"),
        (["photos/none.jpg", NAMES], "photos/none.jpg: no such file or folder"),
        (["photos/one.jpg", NAMES, "--min-score", "2"], "--min-score: expected 0..1, got 2"),
        (["photos/one.jpg", NAMES, "--tile", "0"], "--tile: expected at least 1 pixel"),
        (["photos/one.jpg", NAMES, "--background", "sky"], "background: 'sky' is not among the 3 class names"),
        (["photos/one.jpg", NAMES, "--out", "photos/one.jpg"], "is one of the photos and would be overwritten"),
        (["photos/one.jpg", NAMES, "--out", "kept"], "--out: kept is a file; expected a folder, or for one photo"),
        (["photos", NAMES, "--out", "kept/deep"], "--out: kept is a file; expected a folder"),
        (["photos/one.jpg", NAMES, "--heat", "sky"], "--heat: 'sky' is not among the names: red circle, blue star"),
        (["photos/one.jpg", NAMES, "--heat", "other", "--format", "json"], "--heat is drawn in pictures"),
        (["photos/one.jpg", f"{NAMES},"], "class 3: the name is empty"),
        (["photos/one.jpg", NAMES, "--out", "x.psd"], "--out: '.psd' is not the extension of a picture format"),
        (["photos/one.jpg", NAMES, "--out", "x.txt"], "--out: '.txt' is not the extension of a picture format"),
        (["photos/one.jpg", NAMES, "--out", "x.png", "--format", "json"], "--out: expected .json for --format json"),
        (["photos/one.jpg", NAMES, "--model", "dense-clip-any-name"], "did you mean dense-clip-any-names"),
    ],
)
def test_mistakes_are_one_line_and_code_2(models, photos, capsys, words, message):
    Path("kept").write_text("mine")
    assert ask(models, *words) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1 and message in error[0]
    assert not Path("predictions").exists()


@pytest.mark.parametrize("names", [("a.jpg", "a.png", "a.jpg.png"), ("clip.mp4", "clip.avi")])
def test_results_that_would_overwrite_each_other_are_an_error(models, photos, capsys, names):
    for name in names:
        Path(name).write_bytes(Path("photos/one.jpg").read_bytes())
    assert ask(models, *names, NAMES) == 2
    assert "the results of 2 photos would be predictions/" in capsys.readouterr().err
    assert ask(models, *names, NAMES, "--format", "csv") in (0, 1)  # one table holds them all


def test_a_table_is_written_even_if_nothing_is_found(models, photos):
    Path("predictions").mkdir()
    Path("predictions/results.csv").write_text("of an earlier command")
    options = ("--format", "csv", "--format", "csv", "--min-score", "1")
    assert ask(models, "photos/one.jpg", NAMES, *options, model="vild_text_shapes") == 0
    assert list(csv.reader(open("predictions/results.csv"))) == [["image", "name"]]


def test_a_photo_that_fails_in_one_format_is_in_no_file_of_all_photos(models, photos):
    photo = f"{'n' * 251}.jpg"  # with .json, the name would be too long for a file
    Path(photo).write_bytes(Path("photos/one.jpg").read_bytes())
    assert ask(models, photo, NAMES, "--format", "coco", "--format", "json") == 1
    assert not Path("predictions/coco").exists()


def test_a_name_that_is_not_utf8_costs_nothing(models, photos):
    os.rename("photos/one.jpg", os.fsdecode(b"photos/caf\xe9.jpg"))
    Path("photos/broken.jpg").unlink()
    assert ask(models, "photos", NAMES, "--format", "coco", "--format", "csv", "--format", "json") == 0
    shown = "photos/caf\udce9.jpg"
    assert shown in {image["file_name"] for image in COCO("predictions/coco/coco.json").imgs.values()}
    rows = csv.DictReader(open("predictions/csv/results.csv", encoding="utf-8"))
    assert "photos/caf\\udce9.jpg" in {row["image"] for row in rows}


@pytest.mark.parametrize(
    "model, options, message",
    [
        ("lseg_shapes", ["--format", "voc"], "this model predicts a label map; use coco, yolo or npz"),
        (
            "vild_text_shapes",
            ["--format", "label-png"],
            "this model predicts objects with boxes; use coco, yolo or npz",
        ),
        ("vild_text_shapes", ["--heat", "blue star"], "heat: expected a label map, which has a score for each pixel"),
    ],
)
def test_a_format_that_the_task_lacks_ends_the_command_before_a_file_is_written(
    models, photos, capsys, model, options, message
):
    assert ask(models, "photos", NAMES, "--format", "overlay", *options, model=model) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "broken.jpg" not in line]
    assert len(errors) == 1 and message in errors[0]
    assert not Path("predictions").exists()


def test_results_of_earlier_photos_stay_if_the_command_is_stopped(models, photos, monkeypatch):
    from openvocab.engine.stopping import Stopped
    from openvocab.predictor import Predictor

    results, seen = Predictor.results, []

    def stop_at_the_second(self, *arguments, **options):
        seen.append(1)
        if len(seen) == 2:
            raise Stopped(15)
        return results(self, *arguments, **options)

    monkeypatch.setattr(Predictor, "results", stop_at_the_second)
    Path("photos/broken.jpg").unlink()
    with pytest.raises((Stopped, SystemExit)):
        if ask(models, "photos", NAMES, "--format", "coco") == 143:
            raise SystemExit
    assert len(COCO("predictions/coco.json").imgs) == 1


def test_the_default_model_is_published_and_may_be_used_commercially():
    model = find_model(predict.DEFAULT_MODEL)
    assert model is not None and model.commercial and set(predict.FORMATS) == set(FORMATS)
    config = read_config(model.config, model.settings)
    assert config.model["head"]["presence_threshold"] == 0.5 and config.model["backbone"]["readout"] == "scclip"
