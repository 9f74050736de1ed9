"""Checkpoints: whole or not at all, checked, rejected by name of file and digest."""

import errno
import os
import re
import resource
import signal
import subprocess
import sys
from collections import OrderedDict

import numpy as np
import pytest
import torch
from config_parts import REPOSITORY

from openvocab.checkpoint.checkpoint import (
    CheckpointCorrupt,
    SaveFailed,
    link_checkpoint,
    load_checkpoint,
    load_state_dict,
    newest_valid_checkpoint,
    save_checkpoint,
)
from openvocab.engine.stopping import Stopped


@pytest.fixture
def content():
    return {
        "state_dict": OrderedDict(a=torch.arange(300.0).view(20, 15), b=torch.ones(3, dtype=torch.bfloat16)),
        "meta": {"iter": 7, "names": ["cat", "dog"], "nothing": None, "pair": (1, 2.5)},
        "optimizer": {"state": {}, "param_groups": []},
        "loop": {"draws": 28},
        "random_states": [],
    }


@pytest.fixture
def saved(tmp_path, content):
    path = tmp_path / "iter_7.pth"
    save_checkpoint(content, path)
    return path


def test_round_trip(saved, content):
    loaded = load_checkpoint(saved)
    assert loaded["meta"] == content["meta"]
    for name, value in content["state_dict"].items():
        assert torch.equal(loaded["state_dict"][name], value)
        assert torch.equal(load_state_dict(saved)[name], value)


def test_plain_torch_reads_it_too(saved, content):
    assert torch.load(saved, weights_only=True)["meta"] == content["meta"]


def test_numpy_values_become_plain(tmp_path):
    save_checkpoint({"a": np.float64(0.5), "b": np.arange(3)}, tmp_path / "x.pth")
    loaded = load_checkpoint(tmp_path / "x.pth")
    assert type(loaded["a"]) is float and torch.equal(loaded["b"], torch.arange(3))


def test_other_types_are_refused_with_their_place(tmp_path):
    with pytest.raises(TypeError, match=r"meta\.hook.*Linear"):
        save_checkpoint({"meta": {"hook": torch.nn.Linear(1, 1)}}, tmp_path / "x.pth")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("load", [load_checkpoint, load_state_dict])
def test_every_truncation_is_noticed(saved, load):
    data = saved.read_bytes()
    for part in range(20):
        saved.write_bytes(data[: len(data) * part // 20])
        with pytest.raises(CheckpointCorrupt, match=r"iter_7\.pth.*expected SHA-256.*actual"):
            load(saved)


@pytest.mark.parametrize("load", [load_checkpoint, load_state_dict])
def test_every_flipped_bit_is_noticed(saved, load):
    data = saved.read_bytes()
    positions = [*range(0, len(data), len(data) // 60), *range(len(data) - 110, len(data), 3)]
    for position in positions:
        damaged = bytearray(data)
        damaged[position] ^= 1 << position % 8
        saved.write_bytes(damaged)
        with pytest.raises(CheckpointCorrupt, match="expected SHA-256"):
            load(saved)


def test_newest_valid_passes_over_damage_and_says_so(tmp_path, content, lines_of):
    log = lines_of("openvocab.checkpoint.checkpoint")
    for step in (9, 10, 100):
        save_checkpoint({**content, "step": step}, tmp_path / f"iter_{step}.pth")
    link_checkpoint(tmp_path / "iter_100.pth", tmp_path / "last.pth")
    assert newest_valid_checkpoint(tmp_path).name == "iter_100.pth"
    assert log == []
    (tmp_path / "iter_100.pth").write_bytes(b"")
    assert newest_valid_checkpoint(tmp_path).name == "iter_10.pth"
    assert "skipped" in log[0][1] and "iter_10.pth, since iter_100.pth cannot be resumed from" in log[1][1]


def test_newest_valid_takes_last_where_no_numbered_file_is_whole(tmp_path, content):
    assert newest_valid_checkpoint(tmp_path) is None
    save_checkpoint(content, tmp_path / "last.pth")
    (tmp_path / "iter_4.pth").write_bytes(b"PK")
    assert newest_valid_checkpoint(tmp_path).name == "last.pth"


def test_newest_valid_passes_over_what_no_run_can_continue_from(tmp_path, content, lines_of):
    log = lines_of("openvocab.checkpoint.checkpoint")
    save_checkpoint(content, tmp_path / "iter_4.pth")
    torch.save(content["state_dict"], tmp_path / "iter_99.pth")
    save_checkpoint({"state_dict": {}, "meta": {"iter": 50}}, tmp_path / "iter_50.pth")
    torch.save([1, 2], tmp_path / "iter_60.pth")
    save_checkpoint(content, tmp_path / "iter_4_backup2.pth")
    assert newest_valid_checkpoint(tmp_path).name == "iter_4.pth"
    lines = [line for _, line in log]
    assert [line.split(" (")[0].split("/")[-1] for line in lines[:3]] == [
        f"iter_{number}.pth holds no training state" for number in (99, 60, 50)
    ]
    assert "backup" not in " ".join(lines)


def test_a_link_follows_the_newest_and_survives_its_removal(tmp_path, content):
    for step in (1, 2):
        path = tmp_path / f"iter_{step}.pth"
        save_checkpoint({**content, "step": step}, path)
        link_checkpoint(path, tmp_path / "last.pth")
        path.unlink()
    assert load_checkpoint(tmp_path / "last.pth")["step"] == 2


def test_link_copies_where_links_are_not_supported(tmp_path, content, monkeypatch):
    def no_links(*_):
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", no_links)
    save_checkpoint(content, tmp_path / "iter_1.pth")
    link_checkpoint(tmp_path / "iter_1.pth", tmp_path / "last.pth")
    assert load_checkpoint(tmp_path / "last.pth")["meta"] == content["meta"]


KILLED_IN_SAVE = """
import os, signal, sys, torch
from openvocab.checkpoint import checkpoint
torch.set_num_threads(1)  # threads do not survive a fork
weights = torch.zeros(200_000)
for kill_after in range(12):  # one more system call of the save survives each time
    pid = os.fork()
    if pid == 0:
        left = kill_after
        def count(function):
            def counted(*arguments, **options):
                global left
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left -= 1
                return function(*arguments, **options)
            return counted
        os.fsync, os.replace, os.link = count(os.fsync), count(os.replace), count(os.link)
        torch.save, checkpoint.seal = count(torch.save), count(checkpoint.seal)
        folder = checkpoint.Path(sys.argv[1])
        checkpoint.save_checkpoint({"weights": weights + kill_after, "step": 2}, folder / "iter_2.pth")
        checkpoint.link_checkpoint(folder / "iter_2.pth", folder / "last.pth")
        os._exit(0)
    os.waitpid(pid, 0)
    newest = checkpoint.checkpoints_of(checkpoint.Path(sys.argv[1]))[0]
    loaded = checkpoint.load_checkpoint(newest)
    last = checkpoint.load_checkpoint(sys.argv[1] + "/last.pth")
    assert loaded["step"] in (1, 2) and last["step"] in (1, 2), (loaded["step"], last["step"])
checkpoint.save_checkpoint({"step": 3}, checkpoint.Path(sys.argv[1]) / "iter_3.pth")
"""


def test_killed_while_saving_leaves_a_loadable_checkpoint(tmp_path):
    save_checkpoint({"weights": torch.zeros(10), "step": 1}, tmp_path / "iter_1.pth")
    link_checkpoint(tmp_path / "iter_1.pth", tmp_path / "last.pth")
    subprocess.run([sys.executable, "-c", KILLED_IN_SAVE, str(tmp_path)], check=True, timeout=120)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["iter_1.pth", "iter_2.pth", "iter_3.pth", "last.pth"]


KILLED_AT_A_BYTE = """
import os, signal, sys, torch
from openvocab.checkpoint import checkpoint
torch.set_num_threads(1)
folder, parts = checkpoint.Path(sys.argv[1]), 20
first = checkpoint.load_checkpoint(folder / "iter_1.pth")
size = (folder / "iter_1.pth").stat().st_size
replacing = checkpoint.replacing
class Counting:
    def __init__(self, file, left):
        self.file, self.left = file, left
    def __getattr__(self, name):
        return getattr(self.file, name)
    def write(self, data):
        data = memoryview(data).cast("B")
        self.file.write(data[: self.left])
        if len(data) > self.left:
            self.file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= len(data)
        return len(data)
class killed_at:
    def __init__(self, path, mode):
        self.inner = replacing(path, mode)
    def __enter__(self):
        return Counting(self.inner.__enter__(), offset)
    def __exit__(self, *error):
        return self.inner.__exit__(*error)
for step in range(2, parts + 2):
    offset = size * (step - 2) // parts
    if os.fork() == 0:
        checkpoint.replacing = killed_at
        checkpoint.save_checkpoint({**first, "meta": {"iter": step}}, folder / f"iter_{step}.pth")
        os._exit(0)
    _, status = os.wait()
    assert os.WTERMSIG(status) == signal.SIGKILL, (step, status)
    (left,) = folder.glob("*.saving")
    assert abs(left.stat().st_size - offset) < 2, (left.stat().st_size, offset)
    newest = checkpoint.newest_valid_checkpoint(folder)
    assert checkpoint.load_checkpoint(newest)["meta"]["iter"] == step - 1, "older than one interval"
    checkpoint.save_checkpoint({**first, "meta": {"iter": step}}, folder / f"iter_{step}.pth")
    assert not list(folder.glob("*.saving"))
"""


def test_killed_at_any_byte_of_a_save_loses_one_interval_at_most(tmp_path, content):
    first = {**content, "state_dict": {"weights": torch.arange(100_000.0)}, "meta": {"iter": 1}}
    save_checkpoint(first, tmp_path / "iter_1.pth")
    subprocess.run([sys.executable, "-c", KILLED_AT_A_BYTE, str(tmp_path)], check=True, timeout=120)


@pytest.fixture
def small_files():
    """Let the process write no file above 100 kB, as a full disk would."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_keeps_the_old_file_and_names_the_bytes(saved, content, small_files):
    big = {**content, "big": torch.zeros(1_000_000)}
    with pytest.raises(SaveFailed, match=r"iter_7\.pth: .*too large.*needed about 40\d{5} bytes, free \d+ bytes"):
        save_checkpoint(big, saved)
    assert load_checkpoint(saved)["meta"] == content["meta"]
    assert [path.name for path in saved.parent.iterdir()] == ["iter_7.pth"]


def test_a_signal_that_asked_for_a_save_is_not_why_it_failed(saved, content, small_files):
    try:
        raise Stopped(signal.SIGTERM)
    except Stopped:
        with pytest.raises(SaveFailed, match="too large"):
            save_checkpoint({**content, "big": torch.zeros(1_000_000)}, saved)


def test_missing_and_nameless_files(tmp_path):
    for load in (load_checkpoint, load_state_dict):
        with pytest.raises(FileNotFoundError):
            load(tmp_path / "none.pth")
    with pytest.raises(FileNotFoundError):
        load_state_dict(tmp_path / "none.safetensors")
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(ValueError, match=r"holds no named tensors; its top level has \['epoch'\]"):
        load_state_dict(tmp_path / "empty.pth")


def test_safetensors(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "x.safetensors"
    save_file({"a": torch.arange(4)}, path)
    assert torch.equal(load_state_dict(path)["a"], torch.arange(4))
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CheckpointCorrupt):
        load_state_dict(path)


def test_torch_load_stands_in_one_file_only():
    package = REPOSITORY / "openvocab"
    call = re.compile(r"(?<![\w.])torch\.load\(")  # not safetensors.torch.load
    users = {path.name for path in package.rglob("*.py") if call.search(path.read_text())}
    assert users == {"checkpoint.py"}
    assert "weights_only=False" not in "".join(path.read_text() for path in package.rglob("*.py"))
