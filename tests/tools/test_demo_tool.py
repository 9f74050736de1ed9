"""tools/demo.py: overlays of photos, and one line for a user's mistake."""

import numpy as np
import pytest
from PIL import Image
from tool_runs import LSEG_SHAPES, run_tool

from openvocab.checkpoint import load_state_dict, save_checkpoint
from openvocab.config import read_config
from openvocab.registry import MODELS
from openvocab.saved_config import config_to_data


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Hold the checkpoint of a random model and two photos."""
    folder = tmp_path_factory.mktemp("demo_tool")
    overrides = {"model.backbone.pretrained": None, "model.text_encoder.pretrained": None}
    model = MODELS.build(read_config(LSEG_SHAPES, overrides).model)
    save_checkpoint({"state_dict": model.state_dict()}, folder / "model.pth")
    (folder / "photos").mkdir()
    random = np.random.default_rng(0)
    for name in ("one", "two"):
        Image.fromarray(random.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(folder / "photos" / f"{name}.jpg")
    (folder / "photos" / "notes.txt").write_text("not a photo")
    return folder


def demo(folder, images, out, classes="cat, sofa, floor, other", checkpoint="model.pth"):
    model = ("--config", LSEG_SHAPES, "--checkpoint", folder / checkpoint, "--device", "cpu")
    return run_tool("demo", *images, "--classes", classes, *model, "--out", out)


def test_one_photo_becomes_one_picture(folder, tmp_path, capsys):
    out = tmp_path / "new" / "overlay.png"
    assert demo(folder, [folder / "photos" / "one.jpg"], out) == 0
    assert Image.open(out).size[0] > 448
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and "one.jpg: " in lines[0] and " %" in lines[0] and lines[1] == f"picture: {out}"


def test_a_folder_becomes_a_folder(folder, tmp_path):
    assert demo(folder, [folder / "photos"], tmp_path / "pictures") == 0
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == ["one.png", "two.png"]


def test_a_broken_photo_costs_itself_alone(folder, tmp_path, capsys):
    album = tmp_path / "album"
    album.mkdir()
    good = (folder / "photos" / "one.jpg").read_bytes()
    for name in ("a.jpg", "c.jpg", "e.PNG", ".hidden.jpg", "._mac.jpg"):
        (album / name).write_bytes(good)
    (album / "b.jpg").write_bytes(good[: len(good) // 2])
    (album / "d.jpg").write_bytes(b"")
    (album / "f.jpg").symlink_to(album / "nowhere.jpg")
    (album / "g.jpg").symlink_to(album / "a.jpg")
    (album / "folder.jpg").mkdir()
    assert demo(folder, [album], tmp_path / "pictures") == 1
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == ["a.png", "c.png", "e.png", "g.png"]
    captured = capsys.readouterr()
    errors = captured.err.splitlines()
    assert [line.split(":")[0] for line in errors[:3]] == ["error"] * 3
    assert "b.jpg: truncated JPEG" in errors[0] and "d.jpg: the file is empty" in errors[1] and "f.jpg" in errors[2]
    assert errors[3] == "3 of 7 photos were left out:"
    assert [line.strip() for line in errors[4:]] == [str(album / f"{name}.jpg") for name in "bdf"]
    assert "(7 of 7, 0:00:00 left)" in captured.out


def test_pictures_are_written_whole_or_not_at_all(folder, tmp_path, monkeypatch):
    out = tmp_path / "overlay.png"
    out.write_bytes(b"an earlier picture")

    def fail(self, file, **settings):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    assert demo(folder, [folder / "photos" / "one.jpg"], out) == 2
    assert out.read_bytes() == b"an earlier picture" and list(tmp_path.iterdir()) == [out]


def test_photos_are_not_overwritten_and_equal_stems_are_told_apart(folder, tmp_path, capsys):
    album = tmp_path / "album"
    album.mkdir()
    for name in ("one.jpg", "one.png", "two.png"):
        Image.new("RGB", (40, 30), "red").save(album / name)
    assert demo(folder, [album], album) == 2
    assert "would be overwritten" in capsys.readouterr().err
    assert demo(folder, [album], tmp_path / "out") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["one.jpg.png", "one.png.png", "two.png"]


@pytest.mark.parametrize("name, content", [("names.TXT", "cat\nsofa\n"), ("names.txt", "cat\nsofa\n")])
def test_names_are_read_from_a_file(folder, tmp_path, capsys, name, content):
    (tmp_path / name).write_text(content)
    assert demo(folder, [folder / "photos" / "one.jpg"], tmp_path / "o.png", classes=str(tmp_path / name)) == 0
    assert "names" not in capsys.readouterr().out.splitlines()[0]


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("suffix", [".json", ".csv", ".yaml"])
def test_other_files_are_not_taken_for_a_name(folder, tmp_path, capsys, suffix, exists):
    path = tmp_path / f"names{suffix}"
    if exists:
        path.write_text('["cat"]')
    assert demo(folder, [folder / "photos" / "one.jpg"], tmp_path / "overlay.png", classes=str(path)) == 2
    assert ("one class a line" if exists else "there is none") in capsys.readouterr().err


@pytest.mark.parametrize(
    "change, message",
    [
        ({"images": ["no_photo.jpg"]}, "no_photo.jpg"),
        ({"images": ["http://example.org/photo.jpg"]}, "addresses are not fetched"),
        ({"images": ["EMPTY"]}, "no photos in"),
        ({"classes": "cat, , floor"}, "class 1"),
        ({"checkpoint": "nothing.pth"}, "nothing.pth"),
        ({"out": "picture.unknown"}, "unknown"),
    ],
)
def test_mistakes_are_one_line_and_a_code(folder, tmp_path, capsys, change, message):
    (tmp_path / "empty").mkdir()
    arguments = {"images": [folder / "photos" / "one.jpg"], "out": "overlay.png"} | change
    arguments["images"] = [tmp_path / "empty" if path == "EMPTY" else path for path in arguments["images"]]
    arguments["out"] = tmp_path / arguments["out"]
    assert demo(folder, **arguments) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1 and error[0].startswith("error: ") and message in error[0]


def test_the_config_in_the_checkpoint_serves_where_none_is_given(folder, tmp_path, capsys):
    config = read_config(LSEG_SHAPES, {"model.backbone.pretrained": None, "model.text_encoder.pretrained": None})
    content = {"state_dict": load_state_dict(folder / "model.pth"), "meta": {"config": config_to_data(config)}}
    save_checkpoint(content, tmp_path / "best.pth")
    photo, out = folder / "photos" / "one.jpg", tmp_path / "alone.png"
    options = ("--classes", "cat, other", "--device", "cpu", "--out")
    assert run_tool("demo", photo, "--checkpoint", tmp_path / "best.pth", *options, out) == 0
    assert demo(folder, [photo], tmp_path / "given.png", classes="cat, other") == 0
    assert out.read_bytes() == (tmp_path / "given.png").read_bytes()
    assert run_tool("demo", photo, "--checkpoint", folder / "model.pth", *options, out) == 2
    assert (
        "holds no config of its model; give the config itself: load(config=...) or --config" in capsys.readouterr().err
    )
