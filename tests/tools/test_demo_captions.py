"""tools/demo.py and `openvocab demo` with a caption."""

import json

import numpy as np
import pytest
from grounding_models import save_tiny_glip
from PIL import Image
from tool_runs import run_command, run_tool

from openvocab import load

CAPTION = "a red circle is next to a blue star"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Hold the checkpoint of a random GLIP and two photos."""
    folder = tmp_path_factory.mktemp("demo_captions")
    save_tiny_glip(folder / "glip.pth")
    (folder / "photos").mkdir()
    random = np.random.default_rng(0)
    for name in ("one", "two"):
        Image.fromarray(random.integers(0, 256, (72, 56, 3), dtype=np.uint8)).save(folder / "photos" / f"{name}.png")
    return folder


def demo(folder, *options, images="photos/one.png"):
    return run_tool("demo", folder / images, "--checkpoint", folder / "glip.pth", "--device", "cpu", *options)


def test_a_caption_becomes_a_picture_and_a_line(folder, tmp_path, capsys):
    out = tmp_path / "caption.png"
    assert demo(folder, "--caption", CAPTION, "--out", out) == 0
    result = load(folder / "glip.pth", device="cpu").ground(folder / "photos" / "one.png", CAPTION)
    expected = result.filter(0.3, max_objects=100)
    assert capsys.readouterr().out.splitlines()[0] == f"{folder / 'photos' / 'one.png'}: {expected.describe()}"
    assert "a red circle (best" in expected.describe() and "a blue star (best" in expected.describe()
    assert np.array_equal(np.asarray(Image.open(out)), expected.draw())


def test_phrases_may_be_given(folder, tmp_path, capsys):
    assert demo(folder, "--caption", CAPTION, "--phrases", "red, Star", "--out", tmp_path / "out.png") == 0
    line = capsys.readouterr().out.splitlines()[0]
    assert " red (best" in line and " star (best" in line and "circle" not in line


def test_the_command_takes_a_folder_and_prints_json(folder, tmp_path, capsys):
    options = ("--checkpoint", folder / "glip.pth", "--device", "cpu", "--min-score", "0.99", "--json")
    assert run_command("demo", folder / "photos", "--caption", CAPTION, *options, "--out", tmp_path / "out") == 0
    pictures = json.loads(capsys.readouterr().out)["pictures"]
    assert len(pictures) == 2 and {picture["found"] for picture in pictures} == {"nothing with a score of 0.99 or more"}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["one.png", "two.png"]


@pytest.mark.parametrize(
    "options, message",
    [
        (["--caption", CAPTION, "--classes", "cat"], "--caption stands alone"),
        (["--caption", CAPTION, "--show", "groups"], "--caption stands alone"),
        (["--caption", CAPTION, "--background", "cat"], "--caption stands alone"),
        (["--phrases", "red"], "--phrases are parts of a caption"),
        ([], "--classes or --caption is required"),
        (["--caption", ""], "caption: expected a sentence"),
        (["--caption", "over and under"], "no noun was found in the caption"),
        (["--caption", CAPTION, "--phrases", "a dog"], "'a dog' does not occur in the caption"),
        (["--caption", CAPTION, "--phrases", ""], "'' does not occur in the caption"),
        (["--caption", "a dog " * 1000], "is not within the 75 tokens"),
    ],
)
def test_mistakes_are_one_line_and_a_code(folder, tmp_path, capsys, options, message):
    assert demo(folder, *options, "--out", tmp_path / "out.png") == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1 and error[0].startswith("error: ") and message in error[0]
    assert not (tmp_path / "out.png").exists()
