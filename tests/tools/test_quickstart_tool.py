"""tools/quickstart.py: what it says at its end; its parts are tools with tests of their own."""

import json
import runpy
import subprocess
import time
from pathlib import Path

import numpy as np
from PIL import Image
from tool_runs import REPOSITORY, run_tool

from openvocab.checkpoint import save_checkpoint

METRICS = {"mIoU_seen": 60.0, "mIoU_unseen": 50.0, "top1": 40.0}


def pretend_tool(command: list[str]) -> subprocess.CompletedProcess:
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
    return subprocess.CompletedProcess(command, 0)


def test_its_end_says_time_precision_and_processor(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(subprocess, "run", pretend_tool)
    assert run_tool("quickstart", "--started", time.time() - 90) == 0
    lines = capsys.readouterr().out.splitlines()
    row = {line.split("  ")[0]: line.split() for line in lines if line.endswith(("s", "threads", "float32"))}
    assert 90 <= int(row["Install"][1]) < 120 and int(row["together"][1]) >= 90
    assert row["Pretrain its tiny CLIP on captions"][-3:] == ["bfloat16", "2", "threads"]
    assert row["Train LSeg on the seen classes"][-3:] == ["float32", "2", "threads"]
    assert row["Test LSeg on seen and unseen classes"][-1] == "float32"
    summary = json.loads(Path("work_dirs/quickstart/summary.json").read_text())
    assert summary["lseg_unseen_miou"] == 50.0 and len(summary["parts"]) == 7
    assert summary["parts"][2]["precision"] == "bfloat16"
    assert "cores; units: " in summary["processor"]


def test_the_processor_is_named_with_its_units(monkeypatch):
    quickstart = runpy.run_path(str(REPOSITORY / "tools" / "quickstart.py"))
    info = "model name\t: Some Processor\nflags\t\t: fpu avx2 avx512f sse amx_bf16\n"
    monkeypatch.setattr(Path, "read_text", lambda self: info)
    monkeypatch.setitem(quickstart["processor"].__globals__, "available_cores", lambda: 3)
    assert quickstart["processor"]() == "Some Processor, 3 cores; units: avx2, avx512f, amx_bf16"
