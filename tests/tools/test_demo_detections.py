"""tools/demo.py with a model that detects objects, and with one that only names the whole photo."""

import numpy as np
import pytest
import torch
from PIL import Image
from tool_runs import run_tool

from openvocab.checkpoint.checkpoint import save_checkpoint
from openvocab.vocabulary.class_lists import class_names_path

STUBS = """
import torch
from torch import nn
from openvocab.structures import ClassificationPrediction, DetectionPrediction


class ThreeObjects(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("boxes", torch.empty(3, 4))

    def compute_in(self, dtype):
        return self

    def test_step(self, data):
        return [self.predict(sample.vocabulary) for sample in data["sample"]]

    def predict(self, vocabulary):
        classes = torch.tensor([0, 0, len(vocabulary) - 1])
        return DetectionPrediction(self.boxes, torch.tensor([0.91, 0.7, 0.55]), classes, vocabulary)


class WholePhoto(ThreeObjects):
    def predict(self, vocabulary):
        return ClassificationPrediction(torch.zeros(len(vocabulary)), vocabulary)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Hold two configs with their stub models, the checkpoint of both, a photo and a names file."""
    folder = tmp_path_factory.mktemp("demo_detections")
    (folder / "demo_stubs.py").write_text(STUBS)
    for model in ("ThreeObjects", "WholePhoto"):
        (folder / f"{model}.py").write_text(f"from demo_stubs import {model}\n\nmodel = dict(type={model})\n")
    boxes = torch.tensor([[2.0, 2, 20, 20], [30, 2, 60, 20], [10, 20, 50, 45]])
    save_checkpoint({"state_dict": {"boxes": boxes}}, folder / "model.pth")
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "photo.png")
    (folder / "names.txt").write_text("# mine\nred circle\nblue star; blue asterisk\n")
    return folder


def demo(folder, out, *options, classes="red circle, blue star", model="ThreeObjects"):
    weights = ("--config", folder / f"{model}.py", "--checkpoint", folder / "model.pth", "--device", "cpu")
    return run_tool("demo", folder / "photo.png", "--classes", classes, *weights, "--out", out, *options)


@pytest.mark.parametrize("names", ["red circle, blue star", "FILE"])
def test_objects_become_a_picture_and_a_line(folder, tmp_path, capsys, names):
    out = tmp_path / "new" / "boxes.png"
    assert demo(folder, out, classes=folder / "names.txt" if names == "FILE" else names) == 0
    assert Image.open(out).size[0] > 448
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"{folder / 'photo.png'}: 2 red circle (best 0.91), 1 blue star (0.55)",
        f"picture: {out}",
    ]


def test_a_higher_score_shows_less(folder, tmp_path, capsys):
    assert demo(folder, tmp_path / "out.png", "--min-score", "0.8", "--alpha", "0.5") == 0
    assert "photo.png: 1 red circle (0.91)\n" in capsys.readouterr().out
    assert demo(folder, tmp_path / "out.png", "--min-score", "0.95") == 0
    assert "photo.png: nothing with a score of 0.95 or more\n" in capsys.readouterr().out


def test_a_thousand_names_come_from_a_file(folder, tmp_path, capsys):
    assert demo(folder, tmp_path / "out.png", classes=class_names_path("lvis_1203")) == 0
    assert "2 aerosol can (best 0.91), 1 zucchini (0.55)" in capsys.readouterr().out


def test_a_photo_with_one_name_shows_their_probabilities(folder, tmp_path, capsys):
    assert demo(folder, tmp_path / "out.png", model="WholePhoto") == 0
    assert "photo.png: red circle 0.500, blue star 0.500\n" in capsys.readouterr().out
    assert Image.open(tmp_path / "out.png").size[0] > 448


@pytest.mark.parametrize(
    "change, message",
    [({"classes": "no_such.txt"}, "no_such.txt"), ({"model": "Nothing"}, "Nothing.py")],
)
def test_mistakes_are_one_line_and_a_code(folder, tmp_path, capsys, change, message):
    assert demo(folder, tmp_path / "out.png", **change) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1 and error[0].startswith("error: ") and message in error[0]
