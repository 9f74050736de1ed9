"""Two processes on the CPU, started by torchrun: equal weights, and a random state and samples of its own for each."""

import os
import sys

import pytest
import torch
from bounded_processes import run_bounded
from config_parts import REPOSITORY

from openvocab.checkpoint.checkpoint import load_checkpoint

SCRIPT = REPOSITORY / "tests" / "tiny_ranks.py"


def test_two_ranks_train_to_equal_weights(tmp_path):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    result = run_bounded([*torchrun, str(SCRIPT), str(tmp_path)], env={**os.environ, "OMP_NUM_THREADS": "1"})
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


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_train_to_equal_weights(tmp_path):
    test_two_ranks_train_to_equal_weights(tmp_path)
