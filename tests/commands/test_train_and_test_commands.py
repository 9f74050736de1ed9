"""`openvocab train` and `openvocab test`: configs by name in any folder, published models, and JSON on stdout."""

import json

import pytest
import torch
from tool_runs import run_command, tiny_lseg_options, write_tiny_shapes

from openvocab.checkpoint.checkpoint import load_checkpoint
from openvocab.config.config import read_config
from openvocab.converters import CONVERTERS
from openvocab.registry import MODELS
from openvocab.zoo import models

ENTRY = """
tiny-lseg:
  what: a tiny model
  task: semantic segmentation
  config: lseg_shapes
  settings: {{model.backbone.pretrained: None, model.text_encoder.pretrained: None}}
  hub: owner/tiny
  files: [model.bin]
  converter: tiny
  license: for research
  commercial: no
  published: none
  ours: not yet measured
"""


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    """The options of a run of four steps, on a tiny dataset."""
    return tiny_lseg_options(write_tiny_shapes(tmp_path_factory.mktemp("data") / "shapes"))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working folder."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    return tmp_path / "empty"


def test_a_config_is_trained_and_tested_by_its_name_in_any_folder(folder, options, capfd):
    assert run_command("train", "lseg_shapes", "--json", *options) == 0
    outcome = json.loads(capfd.readouterr().out)
    work_dir = folder / "work_dirs" / "lseg_shapes"
    assert outcome == {
        "work_dir": str(work_dir),
        "checkpoint": str(work_dir / "best.pth"),
        "best": {"name": "mIoU", "score": load_checkpoint(work_dir / "last.pth")["best_score"]},
        "iterations": 4,
    }
    assert run_command("train", "lseg_shapes", "--json", "--resume", *options) == 0  # finished: nothing is left to do
    assert json.loads(capfd.readouterr().out) == outcome

    arguments = ["lseg_shapes", outcome["checkpoint"], "--out", "metrics.json"]
    assert run_command("test", *arguments, "--json", *options) == 0
    answer = json.loads(capfd.readouterr().out)
    written = json.loads((folder / "metrics.json").read_text())
    assert answer["protocol"] == written["protocol"]
    assert answer["metrics"] == {key: written[key] for key in answer["metrics"]} and "mIoU" in answer["metrics"]
    assert run_command("test", *arguments, *options) == 0
    assert f"mIoU: {written['mIoU']:.2f} %\n" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("command", "name", "meant"),
    [("train", "lseg_shape", "lseg_shapes"), ("test", "lseg_shape", "lseg_shapes"),
     ("test", "groupvit-gcc-yfc", "groupvit-gcc-yfcc")],
)  # fmt: skip
def test_a_mistyped_name_is_one_line(folder, capsys, command, name, meant):
    assert run_command(command, name) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1
    what = "config" if command == "train" else "model or config"
    assert shown.err.startswith(f"error: no such {what}: {name}; did you mean ") and meant in shown.err
    assert [*folder.iterdir()] == []


def test_a_published_model_is_evaluated_by_its_name(folder, options, hub, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("OPENVOCAB_CACHE", str(tmp_path / "our cache"))
    monkeypatch.setitem(CONVERTERS, "tiny", lambda state: {name[9:]: value for name, value in state.items()})
    (tmp_path / "models.yaml").write_text(ENTRY.format())
    monkeypatch.setattr(models, "MODELS_FILE", tmp_path / "models.yaml")
    pretrained = {"model.backbone.pretrained": None, "model.text_encoder.pretrained": None}
    torch.manual_seed(3)
    state = MODELS.build(read_config("lseg_shapes", pretrained).model).state_dict()
    torch.save({f"official.{name}": value for name, value in state.items()}, tmp_path / "model.bin")
    torch.save(state, tmp_path / "ours.pth")
    hub.add("owner/tiny", "model.bin", tmp_path / "model.bin")

    data = [option for option in options if "root=" in option]
    assert run_command("test", "tiny-lseg", "--cfg-options", *data) == 2
    assert "restricts commercial use; read it at https://huggingface.co/" in capfd.readouterr().err
    assert run_command("test", "tiny-lseg", "--accept-license", "--json", "--cfg-options", *data) == 0
    by_name = json.loads(capfd.readouterr().out)
    assert run_command("test", "lseg_shapes", tmp_path / "ours.pth", "--json", *options) == 0
    assert json.loads(capfd.readouterr().out)["metrics"] == by_name["metrics"]


def test_shapes_and_convert_answer_programs(folder, capfd):
    arguments = ("--root", "drawn", "--num-train", 8, "--num-val", 2, "--objects-per-class", 1, "--processes", 1)
    assert run_command("shapes", *arguments, "--json") == 0
    assert json.loads(capfd.readouterr().out) == {"root": "drawn", "written": True}
    assert run_command("shapes", *arguments, "--json") == 0
    assert json.loads(capfd.readouterr().out) == {"root": "drawn", "written": False}
    assert (folder / "drawn" / "classes.txt").is_file()
    assert run_command("convert", "lseg", "nowhere.ckpt", "out.pth", "--json") == 2
    shown = capfd.readouterr()
    assert shown.out == "" and "nowhere.ckpt" in shown.err
