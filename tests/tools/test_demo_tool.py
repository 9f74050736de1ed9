"""tools/demo.py: overlays of photos, and one line for a user's mistake."""

import errno
import io
import os
import re

import numpy as np
import pytest
from PIL import Image
from time_limit import time_limit
from tool_runs import LSEG_SHAPES, run_tool

from openvocab.checkpoint.checkpoint import load_state_dict, save_checkpoint
from openvocab.config.config import read_config
from openvocab.config.saved import config_to_data
from openvocab.images.image_io import read_image
from openvocab.registry import MODELS


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
    assert errors[3] == "3 of 7 photos were skipped:"
    assert [line.strip() for line in errors[4:]] == [str(album / f"{name}.jpg") for name in "bdf"]
    assert re.search(r"\(7 of 7, \S+ per second, 0:00:00 left\)", captured.out)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_among_the_photos_costs_itself_alone(folder, tmp_path, capsys):
    album = tmp_path / "album"
    album.mkdir()
    (album / "b.jpg").write_bytes((folder / "photos" / "one.jpg").read_bytes())
    os.mkfifo(album / "a.jpg")
    with time_limit(100):
        assert demo(folder, [album], tmp_path / "pictures") == 1
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["b.png"]
    assert "a.jpg: not a regular file" in capsys.readouterr().err.splitlines()[0]


def album_of(folder, path, *names):
    """Make a folder of one photo under several names."""
    path.mkdir()
    for name in names:
        (path / os.fsdecode(name)).write_bytes((folder / "photos" / "one.jpg").read_bytes())
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252"])
def test_any_name_is_printed_on_any_output(folder, tmp_path, monkeypatch, encoding):
    names = (b"a\xe9.jpg", "b漢.jpg".encode(), b"c\n\x1b[2J.jpg", b"d.jpg")
    album = album_of(folder, tmp_path / "album", *names)
    (album / os.fsdecode(b"e\xff.jpg")).write_bytes(b"")
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=e) for e in ("strict", "backslashreplace"))
    monkeypatch.setattr("sys.stdout", out), monkeypatch.setattr("sys.stderr", err)
    assert demo(folder, [album], tmp_path / "pictures", classes="猫, 猫犬") == 1
    assert len(list((tmp_path / "pictures").iterdir())) == 4
    lines = out.buffer.getvalue().decode(encoding).splitlines()
    assert len(lines) == 8
    cat, kanji = ("猫", "漢") if encoding == "utf-8" else (r"\u732b", r"\u6f22")
    for line, name in zip(lines[::2], (r"a\udce9", f"b{kanji}", r"c\n\x1b[2J", "d")):
        assert line.startswith(f"{album}/{name}.jpg: {cat}")
    error = f"error: {album}/e\\udcff.jpg: the file is empty"
    assert err.buffer.getvalue().decode(encoding).splitlines()[0] == error


def test_long_names_are_written_or_cost_their_photo_alone(folder, tmp_path, capsys):
    longest = "n" * 251 + ".jpg"
    album = album_of(folder, tmp_path / "album", longest, "m" * 251 + ".png", "m" * 251 + ".jpg", "z.jpg")
    assert demo(folder, [album], tmp_path / "pictures") == 1
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == ["n" * 251 + ".png", "z.png"]
    errors = capsys.readouterr().err.splitlines()
    assert all("File name too long" in line for line in errors[:2]) and "2 of 4 photos were skipped" in errors[2]
    assert demo(folder, [album], tmp_path / ("f" * 300)) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_where_no_picture_can_be_written_the_tool_ends(folder, tmp_path, monkeypatch, capsys, number):
    def fail(self, file, *settings):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Image.Image, "save", fail)
    assert demo(folder, [folder / "photos"], tmp_path / "pictures") == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1 and os.strerror(number) in errors[0]


def test_links_that_lead_nowhere_cost_themselves_alone(folder, tmp_path, capsys):
    album = album_of(folder, tmp_path / "album", "good.jpg")
    (album / "a.jpg").symlink_to(album / "b.jpg")
    (album / "b.jpg").symlink_to(album / "a.jpg")
    (album / "c.jpg").symlink_to("x" * 300)
    assert demo(folder, [album], tmp_path / "pictures") == 1
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["good.png"]
    assert "3 of 4 photos were skipped" in capsys.readouterr().err
    assert demo(folder, [album / "a.jpg", album / "c.jpg", album / "good.jpg"], tmp_path / "again") == 1


def test_links_into_a_closed_folder_cost_themselves_alone(folder, tmp_path, monkeypatch, capsys):
    album = album_of(folder, tmp_path / "album", "good.jpg")
    (album / "closed.jpg").symlink_to(tmp_path / "closed" / "photo.jpg")
    look_up = os.stat

    def refuse(path, *args, **options):  # as the system does, to all but an administrator
        if os.fspath(path) == str(album / "closed.jpg") and options.get("follow_symlinks", True):
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
        return look_up(path, *args, **options)

    monkeypatch.setattr(os, "stat", refuse)
    assert demo(folder, [album], tmp_path / "pictures") == 1
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["good.png"]


@pytest.mark.parametrize(("max_pixels", "code"), [(None, 0), (1000, 1)])
def test_a_photo_may_be_as_large_as_the_model_takes_it(folder, tmp_path, monkeypatch, capsys, max_pixels, code):
    config = read_config(LSEG_SHAPES, {"model.backbone.pretrained": None, "model.text_encoder.pretrained": None})
    pipeline = [{"type": "LoadImage", "max_pixels": max_pixels}, {"type": "PackSample"}]
    data = config_to_data(config) | {"test_dataloader": {"dataset": {"pipeline": pipeline}}}
    save_checkpoint(
        {"state_dict": load_state_dict(folder / "model.pth"), "meta": {"config": data}}, tmp_path / "best.pth"
    )
    monkeypatch.setattr(read_image, "__defaults__", (1000,))  # as if the photo were above 2^28 pixels
    options = ("--classes", "cat, other", "--checkpoint", tmp_path / "best.pth", "--device", "cpu")
    assert run_tool("demo", folder / "photos" / "one.jpg", *options, "--out", tmp_path / "overlay.png") == code
    assert (tmp_path / "overlay.png").exists() == (code == 0)
    assert ("more than max_pixels=1000" in capsys.readouterr().err) == (code == 1)


def test_pictures_are_written_whole_or_not_at_all(folder, tmp_path, monkeypatch, capsys):
    out = tmp_path / "overlay.png"
    out.write_bytes(b"an earlier picture")

    def fail(self, file, *settings):
        file.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", fail)
    assert demo(folder, [folder / "photos" / "one.jpg"], out) == 2
    assert out.read_bytes() == b"an earlier picture" and list(tmp_path.iterdir()) == [out]
    assert "No space left on device" in capsys.readouterr().err


def test_photos_are_not_overwritten_and_equal_stems_are_told_apart(folder, tmp_path, capsys):
    album = tmp_path / "album"
    album.mkdir()
    for name in ("one.jpg", "one.png", "two.png"):
        Image.new("RGB", (40, 30), "red").save(album / name)
    assert demo(folder, [album], album) == 2
    assert "would be overwritten" in capsys.readouterr().err
    assert demo(folder, [album], tmp_path / "out") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["one.jpg.png", "one.png.png", "two.png"]


def test_folders_are_searched_recursively_but_for_the_pictures_of_an_earlier_run(folder, tmp_path, capsys):
    album = tmp_path / "album"
    for name in ("one.jpg", "a/one.jpg", "a/b/two.GIF", ".hidden/one.jpg"):
        (album / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 30), "red").save(album / name)
    for before in (0, 3):
        assert demo(folder, [album], album / "out") == 0
        said = f"{before} pictures of an earlier command in {album / 'out'} are ignored"
        printed = capsys.readouterr()
        assert (said in printed.err) == bool(before) and "3 of 3" in printed.out
        files = (path.relative_to(album).as_posix() for path in (album / "out").rglob("*") if path.is_file())
        assert sorted(files) == ["out/a/b/two.png", "out/a/one.png", "out/one.png"]


def test_a_folder_of_one_photo_becomes_a_folder_too_also_behind_a_link(folder, tmp_path):
    album = album_of(folder, tmp_path / "album", b"one.jpg")
    (tmp_path / "elsewhere").mkdir()
    (album / "link").symlink_to(tmp_path / "elsewhere")
    for _ in range(2):
        assert demo(folder, [album], album / "link" / "out") == 0
        assert [path.name for path in (tmp_path / "elsewhere").rglob("*.*")] == ["one.png"]


@pytest.mark.parametrize("name, content", [("names.TXT", "cat\nsofa\n"), ("names.txt", "cat\nsofa\n")])
def test_names_are_read_from_a_file(folder, tmp_path, capsys, name, content):
    (tmp_path / name).write_text(content)
    assert demo(folder, [folder / "photos" / "one.jpg"], tmp_path / "o.png", classes=str(tmp_path / name)) == 0
    assert "names" not in capsys.readouterr().out.splitlines()[0]


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("suffix", [".json", ".csv", ".yaml", ".names"])
def test_other_files_are_not_taken_for_a_name(folder, tmp_path, capsys, suffix, exists):
    path = tmp_path / f"names{suffix}"
    if exists:
        path.write_text('["cat"]')
    assert demo(folder, [folder / "photos" / "one.jpg"], tmp_path / "overlay.png", classes=str(path)) == 2
    assert ("one class per line" if exists else "it does not exist") in capsys.readouterr().err


@pytest.mark.parametrize(
    "change, message",
    [
        ({"images": ["no_photo.jpg"]}, "no_photo.jpg"),
        ({"images": ["ftp://example.org/photo.jpg"]}, "only http and https are fetched"),
        ({"images": ["EMPTY"]}, "no photos in"),
        ({"classes": "cat, , floor"}, "class 1"),
        ({"classes": "cat; dog"}, "commas separate classes"),
        ({"classes": "['cat', 'dog']"}, "class 0: \"['cat'\" looks like a list"),
        ({"classes": "no_names.txt"}, "it does not exist"),
        ({"classes": "cat, names.txt"}, "class 1: 'names.txt' looks like the name of a file"),
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


def test_names_without_quotes_are_explained(folder, capsys):
    photo, checkpoint = folder / "photos" / "one.jpg", folder / "model.pth"
    assert run_tool("demo", photo, "--classes", "cat,", "sofa", "--checkpoint", checkpoint) == 2
    assert (
        "unrecognized arguments: sofa; a text of several words, such as names, stands in quotes"
        in capsys.readouterr().err
    )


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
