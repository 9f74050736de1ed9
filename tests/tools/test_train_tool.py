"""tools/train.py: trains, resumes, and answers a user's mistakes in one line."""

import json
import sys
from unittest.mock import Mock

import pytest
from tool_runs import LSEG_SHAPES, run_tool, tiny_lseg_options, write_tiny_shapes

from openvocab.checkpoint.checkpoint import load_checkpoint


def test_trains_resumes_and_writes_scalars(tmp_path):
    options = [*tiny_lseg_options(write_tiny_shapes(tmp_path / "shapes")), "default_hooks.logger.interval=1"]
    work_dir = tmp_path / "run"
    assert run_tool("train", LSEG_SHAPES, "--work-dir", work_dir, "--amp", "--seed", 7, *options) == 0
    last = load_checkpoint(work_dir / "last.pth")
    assert last["meta"]["iter"] == 4 and last["meta"]["seed"] == 7 and len(last["meta"]["class_names"]) == 37
    assert (work_dir / "best.pth").exists()
    (scalars,) = work_dir.rglob("scalars.json")
    rows = [json.loads(line) for line in scalars.read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3, 4]
    (log,) = work_dir.glob("*/*.log")
    assert "eta:" in log.read_text() and len(log.read_text().splitlines()) < 40

    (work_dir / "iter_4.pth").unlink()  # last.pth names the same file: resume from iter_2
    longer = [*options, "train_cfg.max_iters=6"]
    assert run_tool("train", LSEG_SHAPES, "--work-dir", work_dir, "--seed", 7, "--resume", *longer) == 0
    assert load_checkpoint(work_dir / "last.pth")["meta"]["iter"] == 6


@pytest.mark.parametrize(
    ("words", "amp"),
    [
        (["--amp", LSEG_SHAPES], "bf16"),
        ([LSEG_SHAPES, "--amp"], "bf16"),
        ([LSEG_SHAPES, "--amp", "--seed", "7"], "bf16"),
        ([LSEG_SHAPES, "--amp", "off"], "off"),
        (["--amp=auto", LSEG_SHAPES], "auto"),
        ([LSEG_SHAPES], None),
    ],
)
def test_amp_alone_is_bfloat16_wherever_it_stands(monkeypatch, words, amp):
    build = Mock()
    monkeypatch.setattr("openvocab.engine.runner.build_runner", build)
    assert run_tool("train", *words) == 0
    ((config,), settings) = build.call_args
    assert config.filename == LSEG_SHAPES and settings["amp"] == amp


def test_a_second_run_in_the_folder_is_refused_before_any_data_is_read(capsys, monkeypatch, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "iter_4.pth").write_bytes(b"weeks of work")
    options = tiny_lseg_options(tmp_path / "nowhere")
    line = mistake(capsys, monkeypatch, LSEG_SHAPES, "--work-dir", tmp_path / "run", *options)
    assert "run holds a run already (iter_4.pth): --resume continues it, --work-dir" in line and "--overwrite" in line
    assert (tmp_path / "run" / "iter_4.pth").read_bytes() == b"weeks of work"


def mistake(capsys, monkeypatch, *arguments) -> str:
    """Return the one line that a mistake gives."""
    monkeypatch.delenv("OPENVOCAB_TRACEBACK", raising=False)
    assert run_tool("train", *arguments) == 2
    written = capsys.readouterr().err.strip().splitlines()
    lines = [line for line in written if line.startswith(("error: ", "train.py: error: "))]
    assert lines == written[-1:] != [] and "Traceback" not in "".join(written)
    return lines[0]


def test_a_missing_config(capsys, monkeypatch):
    assert "no such config: nothing.py" in mistake(capsys, monkeypatch, "nothing.py")


def test_an_unknown_option(capsys, monkeypatch):
    assert "--wrok-dir" in mistake(capsys, monkeypatch, LSEG_SHAPES, "--wrok-dir", "x")


def test_a_misspelt_override(capsys, monkeypatch):
    line = mistake(capsys, monkeypatch, LSEG_SHAPES, "--cfg-options", "train_cfg.max_itres=5")
    assert "max_itres" in line and "max_iters" in line


def test_a_missing_data_set(capsys, monkeypatch, tmp_path):
    options = tiny_lseg_options(tmp_path / "nowhere")
    assert "nowhere" in mistake(capsys, monkeypatch, LSEG_SHAPES, "--work-dir", tmp_path / "run", *options)


def test_missing_weights(capsys, monkeypatch, tmp_path):
    options = ["--cfg-options", f"model.backbone.pretrained={tmp_path}/clip.pth"]
    assert "clip.pth" in mistake(capsys, monkeypatch, LSEG_SHAPES, "--work-dir", tmp_path / "run", *options)


def test_an_unknown_registry_name(capsys, monkeypatch, tmp_path):
    line = mistake(
        capsys, monkeypatch, LSEG_SHAPES, "--work-dir", tmp_path / "run", "--cfg-options", "model.head.type=LSegHed",
        "model.backbone.pretrained=None", "model.text_encoder.pretrained=None",
    )  # fmt: skip
    assert "unknown head 'LSegHed'; did you mean 'LSegHead'? registered: " in line


def test_an_unknown_argument_of_a_part(capsys, monkeypatch, tmp_path):
    line = mistake(
        capsys, monkeypatch, LSEG_SHAPES, "--work-dir", tmp_path / "run", "--cfg-options", "model.head.featurs=3",
        "model.backbone.pretrained=None", "model.text_encoder.pretrained=None",
    )  # fmt: skip
    assert "featurs" in line and "features" in line


def test_an_unwritable_work_dir(capsys, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    assert "cannot write to the work dir" in mistake(capsys, monkeypatch, LSEG_SHAPES, "--work-dir", tmp_path / "file")


def test_the_launcher_without_torchrun(capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    line = mistake(capsys, monkeypatch, LSEG_SHAPES, "--work-dir", tmp_path / "run", "--launcher", "pytorch")
    assert "torchrun" in line


def test_the_traceback_is_there_on_demand(monkeypatch):
    monkeypatch.setenv("OPENVOCAB_TRACEBACK", "1")
    monkeypatch.setattr(sys, "argv", ["train", "nothing.py"])
    with pytest.raises(FileNotFoundError):
        run_tool("train", "nothing.py")
