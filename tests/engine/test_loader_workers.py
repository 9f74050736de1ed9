"""Loaders get as many workers as there are cores, by the run itself and in one line."""

import warnings

import pytest
from mmengine.config import Config
from tiny_run import tiny_config

from openvocab.engine import loader_workers
from openvocab.engine.loader_workers import limit_workers
from openvocab.engine.runner import build_runner


def loaders(train: int, test: int) -> Config:
    return Config(dict(train_dataloader=dict(num_workers=train), test_dataloader=dict(num_workers=test)))


@pytest.mark.parametrize(("cores", "ranks", "kept"), [(8, 1, (6, 2)), (4, 1, (4, 2)), (8, 2, (4, 2)), (2, 4, (1, 1))])
def test_workers_are_limited_to_the_cores_of_a_rank(monkeypatch, cores, ranks, kept):
    monkeypatch.setattr(loader_workers, "available_cores", lambda: cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks))
    config = loaders(6, 2)
    line = limit_workers(config)
    assert (config.train_dataloader.num_workers, config.test_dataloader.num_workers) == kept
    lowered = [f"train_dataloader {6}"] * (kept[0] < 6) + [f"test_dataloader {2}"] * (kept[1] < 2)
    note = f"loader workers: {kept[0]}, as many as cores for each process (the config: {', '.join(lowered)})"
    assert line == (note if lowered else "")


def test_a_run_asks_torch_for_no_more_workers_than_cores(tmp_path):
    config = tiny_config(workers=64, max_iters=4)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*suggested max number of worker")
        runner = build_runner(config, work_dir=tmp_path)
        runner.train()
    assert 1 <= runner.train_dataloader.num_workers < 64
    assert config.train_dataloader.num_workers == 64  # the caller's own


def test_no_workers_need_no_other_setting(tmp_path):
    config = tiny_config(max_iters=4)
    for name in ("train", "val", "test"):
        config[f"{name}_dataloader"].update(num_workers=0, persistent_workers=True, prefetch_factor=4)
    build_runner(config, work_dir=tmp_path).train()
