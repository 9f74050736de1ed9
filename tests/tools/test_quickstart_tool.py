"""tools/quickstart.py: what it says at its end, and how it is stopped; its parts are tools with tests of their own."""

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image
from tool_runs import REPOSITORY, run_tool

from openvocab.checkpoint.checkpoint import save_checkpoint
from openvocab.engine.stopping import COPIES_WITHIN

SCORES = {"mIoU_seen": 60.0, "mIoU_unseen": 50.0, "top1": 40.0}
METRICS = {**SCORES, "protocol": {"units": dict.fromkeys(SCORES, "%")}}


def pretend_tool(command: list[str], **options: bool) -> Mock:
    """Leave the files that a tool leaves."""
    _, tool, *arguments = command
    if tool == "tools/train.py":
        folder = Path("work_dirs", Path(arguments[0]).stem)
        folder.mkdir(parents=True)
        dtype = "bfloat16" if "clip" in arguments[0] else "float32"
        save_checkpoint({"meta": {"compute_dtype": dtype, "num_threads": 2}, "state_dict": {}}, folder / "last.pth")
    elif tool == "tools/test.py":
        Path(arguments[arguments.index("--out") + 1]).write_text(json.dumps(METRICS))
        pictures = Path("work_dirs/quickstart/pictures")
        pictures.mkdir(exist_ok=True)
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(pictures / "one.png")
    return Mock(wait=lambda: 0)


def test_its_end_says_time_precision_and_processor(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "Popen", pretend_tool)
    assert run_tool("quickstart", "--started", time.time() - 90) == 0
    lines = capsys.readouterr().out.splitlines()
    row = {line.split("  ")[0]: line.split() for line in lines if line.endswith(("s", "threads", "float32"))}
    assert 90 <= int(row["Install"][1]) < 120 and int(row["together"][1]) >= 90
    assert row["Pretrain its tiny CLIP on captions"][-3:] == ["bfloat16", "2", "threads"]
    assert row["Train LSeg on the seen classes"][-3:] == ["float32", "2", "threads"]
    assert row["Test LSeg on seen and unseen classes"][-1] == "float32"
    summary = json.loads(Path("work_dirs/quickstart/summary.json").read_text())
    assert summary["lseg_unseen_miou"] == 50.0 and len(summary["parts"]) == 7
    assert summary["units"]["lseg_unseen_miou"] == "%" and "lseg_unseen_miou: 50.00 %" in lines
    assert summary["parts"][2]["precision"] == "bfloat16"
    assert "cores; units: " in summary["processor"]


def test_the_processor_is_named_with_its_units(monkeypatch):
    quickstart = runpy.run_path(str(REPOSITORY / "tools" / "quickstart.py"))
    info = "model name\t: Some Processor\nflags\t\t: fpu avx2 avx512f sse amx_bf16\n"
    monkeypatch.setattr(Path, "read_text", lambda self: info)
    monkeypatch.setitem(quickstart["processor"].__globals__, "available_cores", lambda: 3)
    assert quickstart["processor"]() == "Some Processor, 3 cores; units: avx2, avx512f, amx_bf16"


TRAIN = """
import os, pathlib, signal, sys, time
def save(number, frame):
    pathlib.Path("signals").open("a").write(f"{number} ")
    time.sleep(600 if os.path.exists("stubborn") else 0.7)  # longer than the 0.25 s of subprocess.run
    pathlib.Path("saved").touch()
    sys.exit(128 + number)
if not os.path.exists("loads"):
    signal.signal(signal.SIGTERM, save), signal.signal(signal.SIGINT, save)
pathlib.Path("training").write_text(str(os.getpid()))
end = time.monotonic() + 60
while not os.path.exists("finish") and time.monotonic() < end:
    time.sleep(0.05)
sys.exit(3)
"""


@pytest.fixture
def training(tmp_path):
    """A quickstart in tmp_path that waits for `TRAIN`, in a group of its own, as a shell starts it."""
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "make_shapes.py").touch()
    (tmp_path / "tools" / "train.py").write_text(TRAIN)
    command = [sys.executable, str(REPOSITORY / "tools" / "quickstart.py")]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, start_new_session=True, **pipes, text=True)
    end = time.monotonic() + 60
    while not (tmp_path / "training").exists():
        assert time.monotonic() < end and process.poll() is None, process.communicate()
        time.sleep(0.05)
    yield process
    process.kill()


def is_alive(folder: Path) -> bool:
    """Return whether the training still runs."""
    try:
        os.kill(int((folder / "training").read_text()), 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("to_group", [True, False])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_lets_the_training_save_first(training, tmp_path, number, to_group):
    (os.killpg if to_group else os.kill)(training.pid, number)
    _, errors = training.communicate(timeout=30)
    assert training.returncode == 128 + number
    assert errors.splitlines() == [f"stopped by {number.name}; the same command continues from here"]
    assert (tmp_path / "saved").exists() and not is_alive(tmp_path)
    assert (tmp_path / "signals").read_text() == f"{signal.SIGTERM:d} "  # a second one would end a training unsaved


def test_a_tool_that_still_loads_ends_in_one_line_too(tmp_path, request):
    (tmp_path / "loads").touch()
    training = request.getfixturevalue("training")
    os.killpg(training.pid, signal.SIGINT)
    _, errors = training.communicate(timeout=30)
    assert training.returncode == 130 and len(errors.splitlines()) == 1 and not is_alive(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_everything_at_once(training, tmp_path, number):
    (tmp_path / "stubborn").touch()
    training.send_signal(number)
    with pytest.raises(subprocess.TimeoutExpired):
        training.wait(0.5)
    training.send_signal(number)  # a copy, as make passes on what its group has had too
    with pytest.raises(subprocess.TimeoutExpired):
        training.wait(COPIES_WITHIN + 0.5)
    training.send_signal(signal.SIGHUP)  # no second stop: a shell and the kernel send one each
    with pytest.raises(subprocess.TimeoutExpired):
        training.wait(0.5)
    training.send_signal(number)
    _, errors = training.communicate(timeout=30)
    assert training.returncode == 128 + number and len(errors.splitlines()) == 1
    assert not (tmp_path / "saved").exists() and not is_alive(tmp_path)


def test_a_hang_up_that_is_ignored_stays_so(tmp_path, request):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        training = request.getfixturevalue("training")
    finally:
        signal.signal(signal.SIGHUP, before)
    os.killpg(training.pid, signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        training.wait(1)
    (tmp_path / "finish").touch()
    _, errors = training.communicate(timeout=30)
    assert (
        training.returncode == 1 and "`python tools/train.py configs/clip_shapes.py` ended with exit code 3" in errors
    )
