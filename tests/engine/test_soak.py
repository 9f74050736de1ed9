"""A long run: memory, open files and processes stay as they are."""

import json
import os
import sys
from pathlib import Path

import numpy as np
from bounded_processes import started
from config_parts import REPOSITORY


def test_neither_memory_nor_files_nor_processes_grow(tmp_path):
    options = {"work_dir": str(tmp_path), "workers": 2, "max_iters": 1400, "val_interval": 70, "interval": 70}
    command = [sys.executable, str(REPOSITORY / "tests" / "tiny_run.py")]
    training = json.dumps([{**options, "tensorboard": True, "hooks": [{"type": "Measure"}]}])
    shared = Path("/dev/shm")
    before = set(os.listdir(shared))
    with started([*command, training], env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=None) as process:
        output, _ = process.communicate(timeout=240)
    assert "STATUS [0]" in output and "LEFT BEHIND []" in output
    rows = np.array([json.loads(line) for line in (tmp_path / "measured.txt").read_text().splitlines()])
    assert len(rows) == 70
    memory, files, children = rows[50:].T  # a checkpoint keeps the last 1000 values of each log: until then it grows
    per_100_steps = np.polyfit(np.arange(len(memory)) * 0.2, memory, 1)[0]
    assert per_100_steps < 1, memory
    # single counts may catch a pipe of a worker that starts or ends
    assert min(files[-10:]) <= min(files[:10]) and np.median(files[-10:]) <= np.median(files[:10]), files
    assert len(set(children)) == 1, children
    left = {name for name in set(os.listdir(shared)) - before if name.startswith(f"torch_{process.pid}")}
    assert left == set()
