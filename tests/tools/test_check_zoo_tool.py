"""The check of published models against a hub: names and shapes are read from the header of a file."""

import pytest
import torch
from open_clip import pretrained
from safetensors.torch import save_file
from tool_runs import run_tool

from openvocab.clip.open_clip_model import create_clip
from openvocab.zoo import models

ENTRY = """
tiny:
  what: a tiny CLIP
  task: classification
  config: clip_zeroshot_imagenet
  tag: ViT-Ti-8-shapes/tiny
  license: MIT
  commercial: yes
  published: none
  ours: not yet measured
by-hand:
  what: another
  task: classification
  config: clip_zeroshot_imagenet
  by hand: https://example.org
  file: weights.pth
  converter: lseg
  license: MIT
  commercial: yes
  published: none
  ours: not yet measured
"""


@pytest.fixture
def tiny(hub, tmp_path, monkeypatch):
    """A list of a tiny model, which the local hub has; a function that changes its weights there."""
    (tmp_path / "models.yaml").write_text(ENTRY)
    monkeypatch.setattr(models, "MODELS_FILE", tmp_path / "models.yaml")
    monkeypatch.setattr(pretrained, "get_pretrained_cfg", lambda model, tag: {"hf_hub": "owner/tiny/"})
    state = create_clip("ViT-Ti-8-shapes").state_dict()

    def publish(file: str = "open_clip_model.safetensors", **changes: torch.Tensor | None) -> None:
        changed = {**state, **changes}
        save_file({name: value for name, value in changed.items() if value is not None}, tmp_path / "weights")
        hub.clear()
        hub.add("owner/tiny", file, tmp_path / "weights")

    publish()
    return publish


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    code = run_tool("check_zoo", *arguments)
    output = capsys.readouterr()
    return code, output.out, output.err


def test_a_model_that_fits_is_said_to(tiny, capsys):
    code, out, _ = run(capsys)
    assert code == 0
    assert "tiny: owner/tiny/open_clip_model.safetensors, " in out and "names and shapes fit" in out
    assert "by-hand: by hand, https://example.org" in out


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"visual.proj": torch.zeros(3, 3)}, "visual.proj"),
        ({"visual.proj": None}, "visual.proj"),
        ({"visual.extra": torch.zeros(3)}, "visual.extra"),
    ],
)
def test_what_does_not_fit_is_named(tiny, capsys, changes, words):
    tiny(**changes)
    code, out, error = run(capsys, "tiny")
    assert code == 1 and words in out and len(out.splitlines()) == 1
    assert "1 differ or cannot be reached: tiny" in error


def test_a_file_that_is_not_there_and_one_without_a_header(tiny, hub, capsys):
    tiny(file="open_clip_pytorch_model.bin")
    code, out, _ = run(capsys, "tiny")
    assert code == 0 and "its names are not checked" in out
    hub.clear()
    code, out, _ = run(capsys, "tiny")
    assert code == 1 and "owner/tiny has no open_clip_model.safetensors or open_clip_pytorch_model.bin" in out


def test_an_unknown_name_is_a_mistake(tiny, capsys):
    code, _, error = run(capsys, "tinny")
    assert code == 2 and "no published model is called 'tinny'; known: tiny, by-hand" in error
