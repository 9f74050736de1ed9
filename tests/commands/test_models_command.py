"""`openvocab models`: the list of published models, filtered, and everything about one."""

import json
import re

import pytest
from tool_runs import run_command

from openvocab.config.config import read_config
from openvocab.zoo import models, zoo_models
from openvocab.zoo.cache import record_file
from openvocab.zoo.parts import model_parts

TINY = """
tiny:
  what: a tiny model
  task: semantic segmentation
  config: lseg_shapes
  {source}
  license: for research
  commercial: no
  published: 1.5 mIoU on nothing
  ours: not yet measured
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setenv("OPENVOCAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def listed(capsys):
    """A function that returns the names which a command lists."""

    def names(*words: str) -> list[str]:
        assert run_command("models", *words, "--json") == 0
        return [model["name"] for model in json.loads(capsys.readouterr().out)]

    return names


def test_the_table_and_the_list_for_programs_hold_all_models(capsys):
    assert run_command("models") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["name", "task"]
    assert [line.split()[0] for line in lines[1:-2]] == [model.name for model in zoo_models()]
    assert run_command("models", "--json") == 0
    facts = json.loads(capsys.readouterr().out)
    assert [model["name"] for model in facts] == [model.name for model in zoo_models()]
    assert all(model["fetched"] is None for model in facts)


def test_filters_take_parts_of_names_and_narrow_the_list(listed):
    assert all("semantic" in model.task for model in zoo_models() if model.name in listed("--task", "Segmentation"))
    assert listed("--head", "LSeg") == [model.name for model in zoo_models() if model.name.startswith("lseg")]
    assert "dense-clip-vit-b16" in listed("--tower", "vit-b16") and "lseg-fss1000-rn101" in listed(
        "--tower", "ResNet101"
    )
    licenses = {model.license for model in zoo_models() if model.name in listed("--license", "mit")}
    assert licenses == {"MIT"}
    free = listed("--commercial")
    assert free == [model.name for model in zoo_models() if model.commercial] and len(free) < len(zoo_models())
    assert listed("--head", "lseg", "--tower", "resnet101", "--commercial")


def test_filters_that_no_model_passes_together_give_an_empty_list(capsys):
    assert run_command("models", "--head", "groupvit", "--commercial", "--json") == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out) == [] and "has all of this" in shown.err
    assert run_command("models", "--head", "groupvit", "--commercial") == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--head", "lsge"], "--head lsge: no published model has that; there are .*LSegHead"),
        (["--task", "poetry"], "--task poetry: .*semantic segmentation"),
        (["groupvit-gcc-yfc"], "no published model is called 'groupvit-gcc-yfc'; did you mean groupvit-gcc-yfcc"),
        (["xyzzy"], "`openvocab models` lists all"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_a_name_that_there_is_not_is_one_line(words, message, capsys):
    assert run_command("models", *words) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1 and re.search(message, shown.err)


def test_one_model_is_described_with_a_use_that_names_it(capsys):
    assert run_command("models", "groupvit-gcc-yfcc") == 0
    text = capsys.readouterr().out
    assert "https://huggingface.co/nvidia/groupvit-gcc-yfcc" in text and "restricts commercial use" in text
    assert '\nopenvocab predict photo.jpg "cat, sofa, floor" --model groupvit-gcc-yfcc --accept-license\n' in text
    last = text.strip().splitlines()[-2:]
    assert last[0] == "import openvocab" and last[1].startswith(
        'openvocab.load("groupvit-gcc-yfcc", accept_license=True)'
    )


@pytest.mark.parametrize(
    "source", ["hub: owner/tiny\n  files: [model.bin]", "by hand: https://example.org\n  file: a.pth"]
)
def test_fetched_weights_are_shown_until_they_are_deleted(tmp_path, cache, monkeypatch, capsys, source):
    (tmp_path / "models.yaml").write_text(TINY.format(source=f"{source}\n  converter: lseg"))
    monkeypatch.setattr(models, "MODELS_FILE", tmp_path / "models.yaml")
    (model,) = zoo_models()
    weights = cache / "zoo" / "tiny" / "a.pth"
    weights.parent.mkdir(parents=True)
    weights.touch()
    record_file(model).write_text(json.dumps({"file": str(weights)}))

    def fetched() -> str | None:
        assert run_command("models", "tiny", "--json") == 0
        return json.loads(capsys.readouterr().out)["fetched"]

    assert fetched() == str(weights)
    weights.unlink()
    assert fetched() is None


@pytest.mark.parametrize("model", zoo_models(), ids=lambda model: model.name)
def test_the_parts_are_those_of_the_complete_config(model):
    config = read_config(model.config, model.settings).model
    parts = model_parts(model)
    assert parts.head == config.head.type.__name__
    assert parts.image_tower == config.backbone.get("model", config.backbone.type.__name__)
    assert parts.text_tower == config.text_encoder.get("model", config.text_encoder.type.__name__)
