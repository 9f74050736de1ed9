"""A resumed run keeps its number of threads where our tools choose it, and a host's threads are its own."""

import pytest
import torch
from tiny_run import tiny_config

from openvocab.checkpoint.checkpoint import load_checkpoint
from openvocab.engine import thread_count
from openvocab.engine.runner import build_runner
from openvocab.process import processor_cores


@pytest.fixture(autouse=True)
def threads(monkeypatch):
    """4 cores; the number of threads is put back."""
    before = torch.get_num_threads()
    monkeypatch.setattr(thread_count, "available_cores", lambda: 4)
    yield
    torch.set_num_threads(before)


def train(work_dir, threads: int, resume: bool = False) -> int:
    torch.set_num_threads(threads)
    build_runner(tiny_config(max_iters=8), work_dir=work_dir, resume=resume).train()
    return load_checkpoint(work_dir / "last.pth")["meta"]["num_threads"]


@pytest.mark.parametrize(("begun", "now", "kept"), [(2, 1, 2), (1, 2, 1), (8, 2, 2)])
def test_a_resumed_run_keeps_the_threads_that_a_tool_chose(tmp_path, monkeypatch, begun, now, kept):
    monkeypatch.setenv(processor_cores.CHOICE, "1 of 4 cores busy with other jobs")
    assert train(tmp_path, begun) == begun
    (tmp_path / "iter_8.pth").unlink()
    (tmp_path / "last.pth").unlink()
    assert train(tmp_path, now, resume=True) == kept


def test_threads_that_a_user_or_a_host_has_set_stay(tmp_path, monkeypatch):
    monkeypatch.delenv(processor_cores.CHOICE, raising=False)
    train(tmp_path, 2)
    (tmp_path / "iter_8.pth").unlink()
    (tmp_path / "last.pth").unlink()
    assert train(tmp_path, 1, resume=True) == 1
