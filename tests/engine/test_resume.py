"""Kill a run at any step, resume it: the same losses and weights, to the bit."""

import json
import os
import random
import sys
from itertools import chain
from pathlib import Path

import pytest
import torch
from bounded_processes import run_bounded
from config_parts import REPOSITORY
from tiny_run import tiny_config

from openvocab.checkpoint.checkpoint import load_checkpoint
from openvocab.datasets.sampler import ResumableSampler
from openvocab.engine.runner import build_runner
from openvocab.seeding import DrawIndex, seeded_draw

SCRIPT = REPOSITORY / "tests" / "tiny_run.py"


def run_all(*trainings: dict) -> list[int]:
    """Run tiny trainings in processes of their own and return their exit statuses."""
    # the script forks after imports that ask for GPUs: by NVML, which leaves CUDA to the copies
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
    command = [sys.executable, str(SCRIPT), json.dumps(trainings)]
    result = run_bounded(command, env=environment)
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("STATUS")] or [result.stderr[-3000:]]
    statuses = json.loads(line.removeprefix("STATUS"))
    assert 1 not in statuses, result.stderr[-3000:]
    return statuses


def losses(work_dir: Path) -> dict[int, str]:
    """Return the last loss written for each step."""
    lines = (work_dir / "losses.txt").read_text().splitlines()
    return {int(step): loss for step, loss in map(str.split, lines)}


def assert_same_run(one: Path, other: Path) -> None:
    """Compare every loss, and everything of the last checkpoint that training depends on."""
    assert losses(one) == losses(other)
    first, second = load_checkpoint(one / "last.pth"), load_checkpoint(other / "last.pth")
    for key in ("state_dict", "ema_state_dict", "optimizer", "param_schedulers", "random_states", "loop", "best_score"):
        assert_equal(first.get(key), second.get(key), key)


def assert_equal(one, other, place: str) -> None:
    """Compare nested plain values and tensors bit by bit."""
    assert type(one) is type(other), place
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype and torch.equal(one, other), place
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), place
        for key in one:
            assert_equal(one[key], other[key], f"{place}.{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), place
        for index, pair in enumerate(zip(one, other)):
            assert_equal(*pair, f"{place}[{index}]")
    else:
        assert one == other, place


def killed_and_whole(folder: Path, kills: list[int], **options) -> list[dict]:
    """Return the trainings of one run without, and of one with interruptions."""
    whole, killed = {"work_dir": str(folder / "whole"), **options}, {"work_dir": str(folder / "killed"), **options}
    interrupted = [{**killed, "kill_at": step, "resume": number > 0} for number, step in enumerate(kills)]
    return [whole, *interrupted, {**killed, "resume": True}]


def kill_and_resume(folder: Path, kills: list[int], **options) -> None:
    """Train once without, once with interruptions, and compare."""
    assert run_all(*killed_and_whole(folder, kills, **options)) == [0, *[-9] * len(kills), 0]
    assert_same_run(folder / "whole", folder / "killed")


def drawn_case(seed: int) -> tuple[list[int], dict]:
    """Return two steps at which a run is killed, and its options."""
    draw = random.Random(seed)
    options = {"workers": draw.choice([0, 2]), "accumulate": draw.choice([1, 2])}
    options |= {flag: draw.random() < 0.5 for flag in ("ema", "amp")}
    return sorted(draw.sample(range(1, 17), 2)), options


CASES = {
    "in process": ([11], {"workers": 0, "ema": True}),
    "with workers": ([7], {"workers": 2, "amp": True}),
    **{f"twice, seed {seed}": drawn_case(seed) for seed in range(2)},
}


@pytest.fixture(scope="module")
def ended(tmp_path_factory) -> dict[str, tuple[Path, list[int]]]:
    """Return work dirs and statuses of `CASES`, whose trainings are started by one process."""
    folder = tmp_path_factory.mktemp("killed")
    trainings = {name: killed_and_whole(folder / name, kills, **options) for name, (kills, options) in CASES.items()}
    statuses = iter(run_all(*chain.from_iterable(trainings.values())))
    return {name: (folder / name, [next(statuses) for _ in parts]) for name, parts in trainings.items()}


@pytest.mark.parametrize("name", CASES)
def test_killed_and_resumed_equals_uninterrupted(ended, name):
    folder, statuses = ended[name]
    assert statuses == [0, *[-9] * (len(statuses) - 2), 0] and len(statuses) > 2
    assert_same_run(folder / "whole", folder / "killed")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 10))
def test_killed_twice_at_random_steps(tmp_path, seed):
    kills, options = drawn_case(seed)
    kill_and_resume(tmp_path, kills, **options)


def train(work_dir: Path, resume: bool = False, **options) -> None:
    build_runner(tiny_config(**options), work_dir=work_dir, resume=resume).train()


def test_workers_do_not_change_the_run(tmp_path):
    train(tmp_path / "none", max_iters=5)
    train(tmp_path / "two", max_iters=5, workers=2)
    assert losses(tmp_path / "none") == losses(tmp_path / "two")


def test_a_damaged_newest_checkpoint_is_passed_over(tmp_path):
    train(tmp_path / "whole")
    train(tmp_path / "damaged", max_iters=16)
    newest = tmp_path / "damaged" / "iter_16.pth"
    newest.write_bytes(newest.read_bytes()[:-1000])  # last.pth is the same file
    (tmp_path / "damaged" / "losses.txt").write_text("")
    train(tmp_path / "damaged", resume=True)
    again = losses(tmp_path / "damaged")
    assert min(again) == 13 and again.items() <= losses(tmp_path / "whole").items()


def test_resuming_an_empty_folder_starts_from_the_beginning(tmp_path):
    train(tmp_path, max_iters=4, resume=True)
    assert list(losses(tmp_path)) == [1, 2, 3, 4]


def test_resume_refuses_another_class_list(tmp_path, monkeypatch):
    from tiny_run import TinyDataset

    from openvocab.vocabulary.vocabulary import Vocabulary

    monkeypatch.setattr(TinyDataset, "vocabulary", Vocabulary.from_names(["cat", "dog"]))
    train(tmp_path, max_iters=4)
    monkeypatch.setattr(TinyDataset, "vocabulary", Vocabulary.from_names(["cat", "horse"]))
    with pytest.raises(ValueError, match="class 1 was 'dog', is 'horse'"):
        train(tmp_path, max_iters=8, resume=True)


def test_resume_refuses_other_weights_with_a_list(tmp_path):
    train(tmp_path, max_iters=4)
    runner = build_runner(tiny_config(), work_dir=tmp_path, resume=True)
    runner.model.layers[0] = torch.nn.Linear(8, 5)
    runner.model.extra = torch.nn.Linear(1, 1)
    with pytest.raises(ValueError) as caught:
        runner.train()
    lines = str(caught.value).splitlines()
    assert lines[1] == "2 missing: extra.weight; extra.bias"
    assert lines[2].startswith("2 of another shape: layers.0.weight: model (5, 8), file (16, 8); layers.0.bias")


def test_sampler_starts_anywhere_without_walking_there():
    sampler = ResumableSampler(range(10), seed=1)
    draws = iter(sampler)
    walked = [next(draws) for _ in range(57)]
    sampler.start_at(50)
    jumped = [index for index, _ in zip(sampler, range(7))]
    assert walked[50:] == jumped
    assert [draw.seed for draw in walked[50:]] == [draw.seed for draw in jumped]
    assert sorted(walked[:10]) == sorted(walked[10:20]) == list(range(10))
    assert walked[:10] != walked[10:20]


def test_sampler_ranks_share_the_draws(monkeypatch):
    whole = [index for index, _ in zip(ResumableSampler(range(10), seed=1), range(20))]
    for rank in range(2):
        monkeypatch.setattr("openvocab.datasets.sampler.get_dist_info", lambda rank=rank: (rank, 2))
        assert [index for index, _ in zip(ResumableSampler(range(10), seed=1), range(10))] == whole[rank::2]


def test_a_draw_leaves_the_generators_as_they_were():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    with seeded_draw(DrawIndex(3, seed=5)):
        inside = torch.rand(2)
    assert torch.equal(torch.get_rng_state(), before)
    with seeded_draw(DrawIndex(9, seed=5)):
        assert torch.equal(torch.rand(2), inside)


def test_intervals_must_fit_the_accumulation(tmp_path):
    with pytest.raises(ValueError, match="checkpoint interval 4 is not a multiple of accumulative_counts 3"):
        train(tmp_path, accumulate=3)
