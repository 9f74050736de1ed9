"""tools/demo.py --show groups."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from config_parts import REPOSITORY, without_weights
from mmengine.registry import init_default_scope
from PIL import Image
from tool_runs import run_tool

from openvocab.checkpoint.checkpoint import save_checkpoint
from openvocab.config.config import read_config
from openvocab.images.image_io import read_image
from openvocab.registry import MODELS

CONFIG = REPOSITORY / "configs" / "groupvit_shapes.py"


@pytest.fixture(scope="module")
def arguments(tmp_path_factory) -> list:
    """A photo and the checkpoint of a random model."""
    init_default_scope("openvocab")
    folder = tmp_path_factory.mktemp("groups")
    model = MODELS.build(without_weights(read_config(CONFIG).model.to_dict()))
    save_checkpoint({"state_dict": model.state_dict()}, folder / "model.pth")
    pixels = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "photo.png")
    return [folder / "photo.png", "--config", CONFIG, "--checkpoint", folder / "model.pth", "--device", "cpu"]


def test_groups_are_drawn_without_names(arguments: list, tmp_path, capsys):
    assert run_tool("demo", *arguments, "--show", "groups", "--out", tmp_path / "out.png") == 0
    assert Image.open(tmp_path / "out.png").size[0] > 1000
    assert "stage 2" in capsys.readouterr().out


def test_the_photo_may_come_from_stdin(arguments: list, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(arguments[0].read_bytes())))
    for number, photo in enumerate(("-", arguments[0])):
        assert run_tool("demo", photo, *arguments[1:], "--show", "groups", "--out", tmp_path / f"{number}.png") == 0
    assert (tmp_path / "0.png").read_bytes() == (tmp_path / "1.png").read_bytes()


def test_a_photo_may_be_as_large_as_the_model_takes_it(arguments: list, tmp_path, monkeypatch):
    monkeypatch.setattr(read_image, "__defaults__", (1000,))  # as if the photo were above 2^28 pixels
    assert run_tool("demo", *arguments, "--show", "groups", "--out", tmp_path / "out.png") == 0


def test_a_class_may_be_the_background(arguments: list, tmp_path, capsys):
    names = ", ".join(["nothing of these", *(f"thing {number}" for number in range(60))])  # each is unlikely
    named = ["--classes", names, "--out", tmp_path / "out.png"]
    assert run_tool("demo", *arguments, *named) == 0
    assert "nothing" not in capsys.readouterr().out
    assert run_tool("demo", *arguments, *named, "--background", "Nothing of_these") == 0
    assert "nothing of these" in capsys.readouterr().out.split("%")[0]
    assert run_tool("demo", *arguments, *named, "--background", "sky") == 2
    assert "background: 'sky' is not among the 61 class names" in capsys.readouterr().err


def test_classes_need_names(arguments: list, tmp_path, capsys):
    assert run_tool("demo", *arguments, "--out", tmp_path / "out.png") == 2
    assert "--classes or --caption is required" in capsys.readouterr().err
