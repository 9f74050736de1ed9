"""A missing file is reported with the argument that names another one, as the caller can type it."""

import shlex
import urllib.request
from pathlib import Path

import pytest
from config_parts import REPOSITORY
from huggingface_hub import constants
from own_files import NAMES, write_masks, write_photos
from tool_runs import run_command, run_tool

import openvocab
from openvocab.clip.open_clip_model import create_clip
from openvocab.config.config import read_config
from openvocab.config.options import read_options

BOTH_TOWERS = "model.backbone.pretrained=PATH model.text_encoder.pretrained=PATH"


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """A working folder with masks of the user's own, an empty cache, and no network."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_: pytest.fail("a download"))
    monkeypatch.chdir(tmp_path)
    write_photos(tmp_path / "mine" / "photos")
    write_masks(tmp_path / "mine" / "masks")
    Path("my.yaml").write_text(f"path: mine\nimages: photos\nlabels: masks\nnames: {NAMES}\n")


def error_of(capsys) -> str:
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def test_training_names_the_arguments_of_its_command_line(offline, capsys):
    assert run_command("train", "--data", "my.yaml", "--head", "lseg") == 2
    error = error_of(capsys)
    assert f"or give your own by --cfg-options {BOTH_TOWERS} (" in error
    words = shlex.split(error.partition("--cfg-options ")[2].partition(" (")[0])
    config = read_config(REPOSITORY / "configs" / "lseg_custom.py", read_options(words))
    assert config.model.backbone.pretrained == config.model.text_encoder.pretrained == "PATH"


def test_the_tool_of_a_script_names_them_too(offline, capsys):
    assert run_tool("train", REPOSITORY / "configs" / "lseg_ade.py") == 2
    assert "or give your own by --cfg-options model.backbone.pretrained=PATH (" in error_of(capsys)


def test_a_command_without_such_an_option_suggests_none(offline, capsys):
    photo = next(Path("mine/photos").iterdir())
    assert run_command("predict", photo, "cat, dog") == 2
    error = error_of(capsys)
    assert "download open_clip_model.safetensors" in error and "PATH" not in error and "=" not in error.split("(")[0]


def test_python_names_the_arguments_of_the_function_that_was_called(offline):
    with pytest.raises(FileNotFoundError, match=r", or give your own by pretrained=PATH$"):
        create_clip("ViT-B-16-quickgelu", "openai")
    config = read_config(REPOSITORY / "configs" / "dense_clip_ade.py")
    with pytest.raises(FileNotFoundError, match=rf", or give your own by {BOTH_TOWERS}$"):
        openvocab.load(config)
