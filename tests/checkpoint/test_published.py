"""One file of weights whose header describes the model: what comes out is what went in."""

import json
import os
import stat

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from openvocab.checkpoint.checkpoint import SaveFailed
from openvocab.checkpoint.published import META_KEY, read_published_meta, save_published
from openvocab.checkpoint.seal import CheckpointCorrupt

META = {
    "config": {"a": (1, 2.5, ("x",)), "b": [None, True, "ü, \n"], "c": {1: "one", "two": ()}},
    "looks": [{"tuple": [1]}, {"dict": []}, {"tuple": 1, "other": 2}, {}],
    "empty": (),
}


def test_the_description_comes_out_as_it_went_in(tmp_path):
    shared = torch.arange(6.0).reshape(2, 3)
    weights = {
        "a": shared,
        "same memory": shared,
        "column": shared[:, 1],
        "half": shared.half(),
        "flag": torch.tensor(True),
    }
    save_published(weights, META, tmp_path / "model.safetensors")
    assert read_published_meta(tmp_path / "model.safetensors") == META
    back = load_file(tmp_path / "model.safetensors")
    assert back.keys() == weights.keys()
    assert all(back[name].equal(value) and back[name].dtype == value.dtype for name, value in weights.items())
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_other_programs_read_the_file_and_others_may_read_it_too(tmp_path):
    before = os.umask(0o022)
    try:
        save_published({"a": torch.zeros(1)}, {}, tmp_path / "model.safetensors")
    finally:
        os.umask(before)
    with safe_open(tmp_path / "model.safetensors", "np") as file:
        assert file.metadata()["format"] == "pt"
    assert stat.S_IMODE((tmp_path / "model.safetensors").stat().st_mode) == 0o644


def test_a_file_of_another_program_describes_nothing(tmp_path):
    save_file({"a": torch.zeros(1)}, tmp_path / "plain.safetensors")
    assert read_published_meta(tmp_path / "plain.safetensors") == {}


@pytest.mark.parametrize(
    "text", ["[1]", "{", '"a"', '{"dict": [[[], 1]]}', '{"dict": [1]}', "[" * 100_000], ids=str.split
)
def test_a_description_that_is_none_is_one_line(tmp_path, text):
    save_file({"a": torch.zeros(1)}, tmp_path / "bad.safetensors", {META_KEY: text})
    with pytest.raises(ValueError, match="bad.safetensors|a key and a value") as error:
        read_published_meta(tmp_path / "bad.safetensors")
    assert "\n" not in str(error.value)


def test_a_truncated_or_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no.safetensors"):
        read_published_meta(tmp_path / "no.safetensors")
    save_published({"a": torch.zeros(100)}, META, tmp_path / "model.safetensors")
    content = (tmp_path / "model.safetensors").read_bytes()
    for size in (0, 4, 50, len(content) - 1):
        (tmp_path / "cut.safetensors").write_bytes(content[:size])
        with pytest.raises(CheckpointCorrupt, match="cut.safetensors is damaged"):
            read_published_meta(tmp_path / "cut.safetensors")


def test_a_failed_save_leaves_the_earlier_file(tmp_path, monkeypatch):
    save_published({"a": torch.zeros(1)}, {"version": 1}, tmp_path / "model.safetensors")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("openvocab.checkpoint.published.save_file", full)
    with pytest.raises(SaveFailed, match="model.safetensors.*No space left"):
        save_published({"a": torch.zeros(1)}, {"version": 2}, tmp_path / "model.safetensors")
    assert read_published_meta(tmp_path / "model.safetensors") == {"version": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_what_json_cannot_hold_is_refused(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        save_published({"a": torch.zeros(1)}, {"x": float("nan")}, tmp_path / "model.safetensors")
    assert json.loads("[]") == [*tmp_path.iterdir()]
