"""`openvocab publish`: a folder that predicts as the checkpoint does, its card, and the upload to a hub."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import yaml
from config_parts import REPOSITORY
from PIL import Image
from safetensors.torch import load_file, save_file
from tool_runs import run_command, tiny_lseg_options, write_tiny_shapes

import openvocab
from openvocab.checkpoint.checkpoint import load_checkpoint, save_checkpoint
from openvocab.checkpoint.published import read_published_meta, save_published
from openvocab.config.config import ConfigError
from openvocab.config.saved import config_of
from openvocab.registry import MODELS

IMAGE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
NAMES = "red circle, blue star, other"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The work dir of a short training run, and the result file of its test in another folder."""
    folder = tmp_path_factory.mktemp("run")
    options = tiny_lseg_options(write_tiny_shapes(folder / "shapes"))
    assert run_command("train", "lseg_shapes", "--work-dir", folder / "run", *options) == 0
    arguments = ["lseg_shapes", folder / "run" / "best.pth", "--work-dir", folder / "test"]
    assert run_command("test", *arguments, "--out", folder / "metrics.json", *options) == 0
    return folder


@pytest.fixture
def best(run, tmp_path):
    """A copy of the best checkpoint, alone in a folder."""
    (tmp_path / "work").mkdir()
    return shutil.copy2(run / "run" / "best.pth", tmp_path / "work" / "best.pth")


def card_of(folder) -> tuple[dict, str]:
    """Return the YAML header and the text of a model card."""
    _, header, text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(header), text


def test_the_folder_and_the_file_alone_predict_as_the_checkpoint(best, tmp_path, capfd):
    assert run_command("publish", best, "--out", tmp_path / "out", "--json") == 0
    answer = json.loads(capfd.readouterr().out)
    assert answer["folder"] == str(tmp_path / "out") and answer["address"] is None
    assert answer["files"] == {path.name: path.stat().st_size for path in (tmp_path / "out").iterdir()}
    assert answer["files"].keys() == {"model.safetensors", "README.md"}
    content = load_checkpoint(best)
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert weights.keys() == content["state_dict"].keys()
    assert all(weights[name].equal(value) for name, value in content["state_dict"].items())
    original = openvocab.load(best)
    for source in (tmp_path / "out", str(tmp_path / "out"), tmp_path / "out" / "model.safetensors"):
        published = openvocab.load(source)
        steps = [[(type(step), vars(step)) for step in each.pipeline] for each in (published, original)]
        assert steps[0] == steps[1] != []
        assert published(IMAGE, NAMES).label_map.tolist() == original(IMAGE, NAMES).label_map.tolist()


def test_the_example_in_the_card_runs_in_a_fresh_process(best, tmp_path):
    assert run_command("publish", best, "--out", tmp_path / "my-model") == 0
    _, text = card_of(tmp_path / "my-model")
    program = text.split("```python\n")[1].split("```")[0]
    assert len(program.splitlines()) == 2
    Image.fromarray(IMAGE).save(tmp_path / "photo.jpg")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", f"{program}\nprint([*prediction.label_map.shape])"]
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert (ran.stdout, ran.returncode) == ("[48, 64]\n", 0), ran.stderr


def test_the_card_states_task_license_classes_scores_and_protocol(run, best, tmp_path):
    metrics = run / "metrics.json"
    arguments = ("--name", "LSeg of *shapes*", "--license", "mit", "--metrics", metrics)
    assert run_command("publish", best, "--out", tmp_path / "out", *arguments) == 0
    header, text = card_of(tmp_path / "out")
    assert header == {
        "license": "mit",
        "library_name": "openvocab",
        "pipeline_tag": "image-segmentation",
        "tags": ["openvocab", "open-vocabulary", "lseg"],
    }
    written = json.loads(metrics.read_text())
    assert "# LSeg of \\*shapes\\*\n" in text and "semantic segmentation" in text and "`LSegHead`" in text
    assert text.count(f"| mIoU | {written['mIoU']:.2f} % |") == 2  # of the validation, and of the result file
    assert "- images: 4\n" in text and f"- dataset: {written['protocol']['dataset']}\n" in text
    assert "37 classes seen: background, red square" in text and "iterations: 4" in text
    assert openvocab.__version__ in text


def test_a_result_file_next_to_the_checkpoint_is_taken_if_it_is_newer_and_the_only_one(run, best, tmp_path, caplog):
    def published(name: str) -> str:
        assert run_command("publish", best, "--out", tmp_path / name) == 0
        return card_of(tmp_path / name)[1]

    (best.parent / "notes.json").write_text("[1, 2]")
    result = best.parent / "metrics.json"
    shutil.copy(run / "metrics.json", result)
    os.utime(result, (1, 1))
    assert "metrics" not in published("older")
    os.utime(result)
    assert "By metrics.json:" in published("newer")
    shutil.copy(result, best.parent / "other.json")
    assert "By metrics.json:" not in published("two")
    assert "several result files (metrics.json, other.json): --metrics chooses" in caplog.text


def test_without_any_score_the_card_says_so(best, tmp_path):
    content = load_checkpoint(best)
    save_checkpoint({**content, "best_score": None}, best)
    assert run_command("publish", best, "--out", tmp_path / "out") == 0
    assert "## Scores\n\nNot measured.\n" in card_of(tmp_path / "out")[1]


def test_the_folder_is_tested_and_takes_the_config_that_is_given(run, best, tmp_path, capfd):
    assert run_command("publish", best, "--out", tmp_path / "out") == 0
    options = tiny_lseg_options(run / "shapes")
    arguments = ("lseg_shapes", tmp_path / "out", "--work-dir", tmp_path / "test")
    assert run_command("test", *arguments, "--out", tmp_path / "metrics.json", *options) == 0
    assert json.loads((tmp_path / "metrics.json").read_text()) == json.loads((run / "metrics.json").read_text())
    config = openvocab.load("lseg_shapes", tmp_path / "out")
    assert config(IMAGE, NAMES).label_map.tolist() == openvocab.load(best)(IMAGE, NAMES).label_map.tolist()


def test_pushed_to_a_hub_it_is_loaded_from_there(best, tmp_path, hub, capfd):
    arguments = ("--out", tmp_path / "out", "--push", "owner/tiny", "--private", "--json")
    assert run_command("publish", best, *arguments) == 0
    assert json.loads(capfd.readouterr().out)["address"] == f"{hub.address}/owner/tiny"
    assert hub.created == {"owner/tiny": "private"}
    for name in ("model.safetensors", "README.md"):
        assert hub[f"/owner/tiny/resolve/main/{name}"] == (tmp_path / "out" / name).read_bytes()
    assert 'openvocab.load("hf-hub:owner/tiny")' in card_of(tmp_path / "out")[1]
    published = openvocab.load("hf-hub:owner/tiny")
    assert published(IMAGE, NAMES).label_map.tolist() == openvocab.load(best)(IMAGE, NAMES).label_map.tolist()


def test_a_hub_that_refuses_leaves_the_folder_and_says_how_to_go_on(best, tmp_path, hub, capsys):
    hub.gated.add("owner/tiny")
    assert run_command("publish", best, "--out", tmp_path / "out", "--push", "owner/tiny") == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "hf auth login" in line and f"`hf upload owner/tiny {tmp_path / 'out'}`" in line
    assert (tmp_path / "out" / "README.md").is_file()


def test_a_hub_that_cannot_be_reached_is_one_line(best, tmp_path, hub, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert run_command("publish", best, "--out", tmp_path / "out", "--push", "owner/tiny") == 2
    assert "the upload to owner/tiny failed" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("repository", ["tiny", "a/b/c", "owner/--x", "owner/ü"])
def test_a_wrong_name_of_a_repository_is_refused_before_any_work(best, tmp_path, capsys, repository):
    assert run_command("publish", best, "--out", tmp_path / "out", f"--push={repository}") == 2
    assert capsys.readouterr().err.count("\n") == 1 and not (tmp_path / "out").exists()


def test_nothing_is_overwritten_and_no_half_folder_stays(best, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    assert run_command("publish", best, "--out", tmp_path / "mine") == 2
    assert "exists already" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["file"]
    content = load_checkpoint(best)
    name = next(iter(content["state_dict"]))
    state = {key: value for key, value in content["state_dict"].items() if key != name}
    save_checkpoint({**content, "state_dict": state}, best)
    assert run_command("publish", best, "--out", tmp_path / "new") == 2
    assert f"1 missing: {name}" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "work"}


@pytest.mark.parametrize(
    ("damage", "message"),
    [("missing", "no such checkpoint"), ("cut", "is damaged"), ("metrics", "is no result file"), ("bare", "--config")],
)
def test_wrong_files_are_one_line(best, tmp_path, capsys, damage, message):
    arguments = []
    if damage == "missing":
        best.unlink()
    elif damage == "cut":
        best.write_bytes(best.read_bytes()[:10_000])
    elif damage == "metrics":
        (tmp_path / "m.json").write_text('{"mIoU": 3.5}')
        arguments = ["--metrics", tmp_path / "m.json"]
    else:
        save_checkpoint({"state_dict": load_checkpoint(best)["state_dict"]}, best)
    assert run_command("publish", best, "--out", tmp_path / "out", *arguments) == 2
    shown = capsys.readouterr()
    assert message in shown.err and shown.err.count("\n") == 1 and not (tmp_path / "out").exists()


def test_a_checkpoint_without_a_config_is_published_with_the_one_that_is_named(best, tmp_path):
    save_checkpoint({"state_dict": load_checkpoint(best)["state_dict"]}, tmp_path / "bare.pth")
    assert run_command("publish", tmp_path / "bare.pth", "--out", tmp_path / "out", "--config", "lseg_shapes") == 0
    assert openvocab.load(tmp_path / "out")(IMAGE, NAMES).label_map.shape == (48, 64)


def test_a_config_in_a_file_builds_no_other_class(best, tmp_path):
    assert run_command("publish", best, "--out", tmp_path / "out") == 0
    file = tmp_path / "out" / "model.safetensors"
    meta = read_published_meta(file)
    meta["config"]["model"]["head"]["type"] = "subprocess.Popen"
    save_published(load_file(file), meta, file)
    with pytest.raises(ConfigError, match="'subprocess.Popen' is not registered"):
        openvocab.load(tmp_path / "out")


def test_files_that_the_model_needs_and_the_folder_lacks_are_named(best, tmp_path, caplog):
    np.save(tmp_path / "rows.npy", np.eye(3, 512, dtype=np.float32))
    content = load_checkpoint(best)
    encoder = {"type": "openvocab.text.precomputed.PrecomputedTextEncoder", "path": str(tmp_path / "rows.npy")}
    content["meta"]["config"]["model"]["text_encoder"] = {**encoder, "names": ["red circle", "blue star", "other"]}
    state = MODELS.build(config_of(content, "x").model).state_dict()
    save_checkpoint({**content, "state_dict": state}, best)
    assert run_command("publish", best, "--out", tmp_path / "out") == 0
    (line,) = [record.getMessage() for record in caplog.records if record.name == "openvocab.publishing.folder"]
    assert line.startswith(f"model.text_encoder.path={tmp_path / 'rows.npy'}: ") and "needs it there" in line
    assert openvocab.load(tmp_path / "out")(IMAGE, NAMES).label_map.shape == (48, 64)


def test_weights_of_another_program_need_their_config(best, tmp_path):
    save_file(load_checkpoint(best)["state_dict"], tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match="holds no config of its model"):
        openvocab.load(tmp_path)
    assert openvocab.load("lseg_shapes", tmp_path / "model.safetensors")(IMAGE, NAMES).label_map.shape == (48, 64)
