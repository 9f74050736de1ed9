"""A rank that is killed, hangs, is late, asked to stop or has a bad batch: what the others do, and what is left."""

import json
import os
import re
import sys
from pathlib import Path

import pytest
import torch
from bounded_processes import started
from config_parts import REPOSITORY

from openvocab.checkpoint.checkpoint import load_checkpoint

SCRIPT = REPOSITORY / "tests" / "forked_ranks.py"
KILLS = {"forward": 1, "gather": 1, "save": 0}
"""Moments at which a rank is killed, and which."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def ended(folder) -> dict[str, dict]:
    """Run every scenario in one process tree; return {name: statuses, seconds, output}."""
    runs = {"whole": {"work_dir": "whole", "max_iters": 10}}
    for moment, rank in KILLS.items():
        runs[moment] = {"work_dir": moment, "max_iters": 10, "kill": {"rank": rank, "moment": moment, "step": 6}}
        runs[f"{moment} resumed"] = {"work_dir": moment, "max_iters": 10, "resume": True}
    runs["fewer"] = {"work_dir": "whole", "max_iters": 12, "resume": True, "world_size": 1}
    runs["interrupted"] = {"work_dir": "stop", "max_iters": 10, "interrupt": {"rank": 1, "step": 3}}
    runs["interrupted resumed"] = {"work_dir": "stop", "max_iters": 10, "resume": True}
    runs["hang"] = {"work_dir": "hang", "kill": {"rank": 1, "moment": "hang", "step": 5}}
    runs["minutes"] = {"work_dir": "minutes", "minutes": 0.05, "max_iters": 20_000, "val_interval": 2_000}
    runs["bad batch"] = {"work_dir": "batch", "max_iters": 10, "spoil_rank": 1}
    runs["skip"] = {"work_dir": "skip", "max_iters": 10, "nonfinite": "skip", "poison_rank": 1}
    runs["bad gradient"] = {"work_dir": "gradient", "max_iters": 10, "break_rank": 1}
    runs["skip gradient"] = {"work_dir": "skip gradient", "max_iters": 10, "nonfinite": "skip", "break_rank": 1}
    for run in runs.values():
        run["work_dir"] = str(folder / run["work_dir"])
        (folder / run["work_dir"]).mkdir(exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(SCRIPT), json.dumps(list(runs.values()))]
    with started(command, env=environment, stderr=-2) as process:
        output, _ = process.communicate(timeout=240)
        with pytest.raises(ProcessLookupError):  # no process of any of them is left
            os.killpg(process.pid, 0)
    *outputs, last = output.split("ENDED\n")
    results = json.loads(last.removeprefix("RESULTS"))
    return {name: {**result, "output": text} for name, result, text in zip(runs, results, outputs)}


@pytest.mark.parametrize("moment", KILLS)
def test_the_others_end_with_an_error_in_time_and_the_run_can_be_resumed(ended, folder, moment):
    statuses, killed = ended[moment]["statuses"], KILLS[moment]
    assert statuses[killed] == -9 and statuses[1 - killed] not in (0, -9)
    assert ended[moment]["seconds"] < 30
    assert ended[f"{moment} resumed"]["statuses"] == [0, 0], ended[f"{moment} resumed"]["output"][-3000:]
    whole, resumed = (load_checkpoint(folder / name / "iter_10.pth") for name in ("whole", moment))
    assert all(torch.equal(value, resumed["state_dict"][name]) for name, value in whole["state_dict"].items())


def test_a_rank_that_hangs_ends_the_others_within_the_time_out(ended):
    assert ended["hang"]["statuses"] == [1, -9]
    output = ended["hang"]["output"]
    assert re.search(r"RuntimeError: .*(timeout|Timed out)", output), output[-2000:]


def test_ranks_agree_on_the_steps_that_fit_into_a_time(ended, folder):
    assert ended["minutes"]["statuses"] == [0, 0], ended["minutes"]["output"][-3000:]
    done, planned, interval = (folder / "minutes" / "length_0.txt").read_text().split()
    assert (folder / "minutes" / "length_1.txt").read_text().split() == [done, planned, interval]
    assert 10 < int(done) == int(planned) < 20_000
    assert load_checkpoint(folder / "minutes" / "last.pth")["run_length"]


def test_fewer_ranks_can_resume(ended, folder):
    assert ended["fewer"]["statuses"] == [0] and "world_size 2 -> 1" in ended["fewer"]["output"]
    assert load_checkpoint(folder / "whole" / "last.pth")["meta"]["iter"] == 12


def test_one_rank_is_asked_to_stop_and_all_do_after_the_same_step(ended, folder):
    assert ended["interrupted"]["statuses"] == [143, 143]
    assert "stopped by SIGTERM after step 3" in ended["interrupted"]["output"]
    assert ended["interrupted resumed"]["statuses"] == [0, 0]
    whole, resumed = (load_checkpoint(folder / name / "iter_10.pth") for name in ("whole", "stop"))
    assert all(torch.equal(value, resumed["state_dict"][name]) for name, value in whole["state_dict"].items())


@pytest.mark.parametrize(("name", "reason"), [("skip", "loss_square = nan"), ("skip gradient", "gradient of 1 of 6")])
def test_a_bad_step_of_one_rank_is_left_out_by_all(ended, folder, name, reason):
    assert ended[name]["statuses"] == [0, 0], ended[name]["output"][-3000:]
    ranks = [torch.load(folder / name / f"rank_{rank}.pt", weights_only=True) for rank in range(2)]
    assert all(torch.equal(value, ranks[1][key]) and torch.isfinite(value).all() for key, value in ranks[0].items())
    assert load_checkpoint(folder / name / "last.pth")["loop"]["skipped"] >= 1
    assert f"not finite: {reason}" in ended[name]["output"]


def test_a_bad_batch_of_one_rank_ends_both_before_the_step(ended, folder):
    assert 0 not in ended["bad batch"]["statuses"] and "loss_square = nan" in ended["bad batch"]["output"]
    saved = load_checkpoint(folder / "batch" / "last.pth")
    assert saved["meta"]["iter"] == 4
    assert all(torch.isfinite(value).all() for value in saved["state_dict"].values())
    assert not list((folder / "batch").glob("iter_[56].pth"))


def test_a_bad_gradient_of_one_rank_ends_both_before_the_step(ended, folder):
    assert ended["bad gradient"]["statuses"] == [1, 1]
    assert load_checkpoint(folder / "gradient" / "last.pth")["meta"]["iter"] == 4
