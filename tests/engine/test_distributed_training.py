"""Two processes on the CPU, started by torchrun: equal weights, one random state each, and no rank left behind."""

import os
import re
import subprocess
import sys
import time

import pytest
import torch
from bounded_processes import run_bounded
from config_parts import REPOSITORY

from openvocab.checkpoint.checkpoint import load_checkpoint

SCRIPT = REPOSITORY / "tests" / "tiny_ranks.py"


def torchrun(*arguments: str) -> subprocess.CompletedProcess:
    """Start two ranks of the script."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(SCRIPT)]
    return run_bounded([*command, *arguments], env=environment)


def test_two_ranks_train_to_equal_weights(tmp_path):
    result = torchrun(str(tmp_path), "--max-iters", "6", "--resume-to", "10", "--whole", "10")
    assert result.returncode == 0, result.stderr[-3000:]
    for run in ("whole", "parts"):
        ranks = [torch.load(tmp_path / f"{run}_{rank}.pt", weights_only=True) for rank in range(2)]
        assert all(torch.equal(ranks[0][name], ranks[1][name]) for name in ranks[0])
    whole, parts = (load_checkpoint(tmp_path / run / "last.pth") for run in ("whole", "parts"))
    assert len(whole["random_states"]) == 2
    for name, value in whole["state_dict"].items():  # resumed with two ranks: equal to uninterrupted
        assert torch.equal(value, parts["state_dict"][name]), name
    for rank in range(2):  # a thread of the group that outlives it may abort the process at Python's end
        assert "gloo" not in (tmp_path / f"threads_{rank}.txt").read_text()
    seen = [set((tmp_path / f"samples_{rank}.txt").read_text().split()) for rank in range(2)]
    assert seen[0] and seen[1] and seen[0] != seen[1]


def test_ranks_agree_on_the_steps_that_fit_into_a_time(tmp_path):
    result = torchrun(str(tmp_path), "--minutes", "0.05")
    assert result.returncode == 0, result.stderr[-3000:]
    done, planned, interval = (tmp_path / "length_0.txt").read_text().split()
    assert (tmp_path / "length_1.txt").read_text().split() == [done, planned, interval]
    assert 10 < int(done) == int(planned) < 20_000 and load_checkpoint(tmp_path / "bounded/last.pth")["run_length"]


def test_nan_on_one_rank_stops_all_before_the_step(tmp_path):
    result = torchrun(str(tmp_path), "--max-iters", "6", "--poison-rank", "1")
    assert result.returncode != 0
    assert "loss_square = nan" in result.stderr
    saved = load_checkpoint(tmp_path / "parts" / "last.pth")
    assert saved["meta"]["iter"] == 4
    assert all(torch.isfinite(value).all() for value in saved["state_dict"].values())
    assert not list((tmp_path / "parts").glob("iter_[56].pth"))


def test_a_rank_that_hangs_ends_the_others_within_the_time_out(tmp_path):
    start = time.monotonic()
    result = torchrun(str(tmp_path), "--max-iters", "6", "--hang-rank", "1")
    assert result.returncode != 0
    assert re.search(r"RuntimeError: .*(timeout|Timed out)", result.stderr), result.stderr[-2000:]
    assert time.monotonic() - start < 120


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_train_to_equal_weights(tmp_path):
    test_two_ranks_train_to_equal_weights(tmp_path)
