"""One work dir, one run: a second one neither removes nor replaces a byte of it, whether the first lives or not."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from config_parts import REPOSITORY
from mmengine.config import Config
from tiny_run import tiny_config

from openvocab.checkpoint.checkpoint import load_checkpoint, save_checkpoint
from openvocab.engine.runner import build_runner
from openvocab.engine.work_dir import LOCK, WorkDirInUse, WorkDirLock


def train(work_dir, resume=False, overwrite=False, checkpoint=None, **options):
    config = tiny_config(**options)
    runner = build_runner(config, work_dir=work_dir, resume=resume, overwrite=overwrite, checkpoint=checkpoint)
    runner.train()
    return runner


def contents(folder: Path) -> dict[str, str]:
    """Return the digest of every file below a folder, but for the note on who trains there."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != LOCK]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def finished(tmp_path):
    """The work dir of a run of 16 steps."""
    train(tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize("left", ["*.pth", "iter_16.pth", "last.pth", "best.pth"])
def test_a_second_run_stops_and_leaves_everything_as_it_was(finished, left):
    kept = list(finished.glob(left))
    for path in finished.glob("*.pth"):
        if path not in kept:
            path.unlink()
    before = contents(finished)
    with pytest.raises(WorkDirInUse, match=rf"{finished} holds a run.*--resume.*--work-dir.*--overwrite"):
        build_runner(tiny_config(max_iters=4), work_dir=finished)
    assert contents(finished) == before


def test_a_run_that_saved_nothing_is_in_nobodys_way(tmp_path):
    build_runner(tiny_config(), work_dir=tmp_path)
    train(tmp_path, max_iters=4)
    assert (tmp_path / "iter_4.pth").exists()


def config_file(folder: Path, **options) -> Config:
    """Return the tiny config as one that was read from `tiny.py`."""
    tiny_config(**options).dump(folder / "tiny.py")
    return Config.fromfile(folder / "tiny.py")


def test_overwrite_moves_the_earlier_run_aside(finished, tmp_path, capfd):
    (finished / "tiny.py").write_text("# the earlier config")
    (finished / "notes.txt").write_text("mine")
    (finished / "losses.txt").unlink()
    before = contents(finished)
    build_runner(config_file(tmp_path, max_iters=4), work_dir=finished, overwrite=True).train()
    (moved,) = finished.glob("earlier-*")
    notes = before.pop("notes.txt")
    assert contents(moved) == before and contents(finished)["notes.txt"] == notes
    assert {path.name for path in finished.glob("*.pth")} == {"best.pth", "iter_4.pth", "last.pth"}
    assert f"the files of the earlier run are in {moved} now" in "".join(capfd.readouterr())


def test_overwrite_does_not_move_what_the_run_starts_from(finished):
    before = contents(finished)
    with pytest.raises(WorkDirInUse, match=r"best\.pth is one of the files to move aside"):
        build_runner(tiny_config(), work_dir=finished, checkpoint=finished / "best.pth", overwrite=True)
    with pytest.raises(ValueError, match="resume and overwrite"):
        build_runner(tiny_config(), work_dir=finished, resume=True, overwrite=True)
    assert contents(finished) == before


def test_resuming_from_an_earlier_file_does_not_replace_the_later_ones(finished):
    with pytest.raises(WorkDirInUse, match="holds a run"):
        build_runner(tiny_config(), work_dir=finished, resume=True, checkpoint=finished / "iter_12.pth")
    train(finished, resume=True, checkpoint=finished / "iter_16.pth", max_iters=16)


def test_rotation_removes_only_what_the_run_wrote_itself(tmp_path):
    train(tmp_path, max_iters=8)
    others = ["iter_1_backup.pth", "iter_4_mine.pth", "iter_2.pth", "my_iter_3.pth"]
    for name in others:
        torch.save({"weights": torch.ones(1)}, tmp_path / name)
    train(tmp_path, resume=True, max_iters=16)
    assert all((tmp_path / name).exists() for name in others)
    own = {path.name for path in tmp_path.glob("*.pth")} - set(others) - {"best.pth", "last.pth"}
    assert own == {"iter_12.pth", "iter_16.pth"}  # iter_4 and iter_8 of before the resume are gone
    assert load_checkpoint(tmp_path / "last.pth")["saved_files"][-1] == "iter_16.pth"


def test_a_test_in_the_same_folder_replaces_nothing(finished, tmp_path):
    (finished / "tiny.py").write_text("# of the training")
    before = contents(finished)
    config = config_file(tmp_path)
    build_runner(config, work_dir=finished, checkpoint=finished / "best.pth", training=False).test()
    after = contents(finished)
    assert before.items() <= after.items()
    assert len([name for name in after.keys() - before.keys() if name.endswith("/tiny.py")]) == 1


HOLDER = """
import os, sys, time
sys.path.insert(0, sys.argv[2])
from tiny_run import tiny_config
from mmengine.hooks import Hook
from openvocab.engine.runner import build_runner
from openvocab.engine.work_dir import WorkDirInUse
class Wait(Hook):
    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if batch_idx == 0:
            print("training", flush=True)
            sys.stdin.readline()
try:
    runner = build_runner(tiny_config(max_iters=4, workers=int(sys.argv[3])), work_dir=sys.argv[1])
except WorkDirInUse as error:
    print(error, flush=True)
    sys.exit(2)
runner.register_hook(Wait())
runner.train()
"""


def start_holder(work_dir: Path, workers: int = 0) -> subprocess.Popen:
    command = [sys.executable, "-c", HOLDER, str(work_dir), str(REPOSITORY / "tests"), str(workers)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment, start_new_session=True)


def test_two_runs_at_once_the_second_is_told_and_a_killed_one_blocks_nobody(tmp_path):
    with start_holder(tmp_path, workers=2) as holder:
        while "training" not in (line := holder.stdout.readline()):
            assert line, "the first run ended early"
        with pytest.raises(WorkDirInUse) as caught:
            build_runner(tiny_config(), work_dir=tmp_path)
        since = json.loads((tmp_path / LOCK).read_text())["since"]
        expected = f"another training runs in {tmp_path}: process {holder.pid} on {socket.gethostname()} since {since}"
        assert str(caught.value).startswith(expected)
        with pytest.raises(WorkDirInUse, match="another training runs"):
            build_runner(tiny_config(), work_dir=tmp_path, resume=True)
        with pytest.raises(WorkDirInUse, match="another training runs"):
            build_runner(tiny_config(), work_dir=tmp_path, overwrite=True)
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        # its loader workers may still look around for their parent: they do not hold the lock
        train(tmp_path, max_iters=4)
        os.killpg(holder.pid, signal.SIGKILL)


def test_of_runs_that_start_at_once_one_trains(tmp_path):
    holders = [start_holder(tmp_path) for _ in range(2)]
    for holder in holders:
        holder.stdin.write("\n")
        holder.stdin.close()
    assert sorted(holder.wait(60) for holder in holders) == [0, 2]
    for holder in holders:
        holder.stdout.close()
    assert load_checkpoint(tmp_path / "last.pth")["meta"]["iter"] == 4


def test_runs_of_the_same_second_have_a_log_each(tmp_path, monkeypatch):
    monkeypatch.setattr("time.strftime", lambda *_: "20260101_000000")
    folders = [build_runner(tiny_config(), work_dir=tmp_path, training=False).log_dir for _ in range(3)]
    assert len(set(folders)) == 3 and all(Path(folder).parent == tmp_path for folder in folders)


def test_the_lock_ends_with_the_training(tmp_path):
    runner = train(tmp_path, max_iters=4)
    other = WorkDirLock(tmp_path)
    other.acquire()
    assert other._descriptor is not None
    other.release()
    assert runner.work_dir_lock._descriptor is None


def test_runners_of_one_process_do_not_lock_each_other_out(tmp_path):
    first = build_runner(tiny_config(max_iters=4), work_dir=tmp_path)
    build_runner(tiny_config(max_iters=4), work_dir=tmp_path).train()
    assert first.work_dir_lock is not None and (tmp_path / "iter_4.pth").exists()


@pytest.mark.parametrize("kind", ["outside", "above", "beside", "not names"])
def test_a_checkpoint_cannot_have_files_of_others_removed(tmp_path, kind):
    folder = tmp_path / "run"
    train(folder, max_iters=8)
    outside, beside = tmp_path / "thesis.txt", folder / "notes.txt"
    for path in (outside, beside):
        path.write_text("mine")
    claimed = {"outside": [str(outside)], "above": ["../thesis.txt"], "beside": ["notes.txt"], "not names": [3, None]}
    for name in ("iter_8.pth", "last.pth"):
        content = load_checkpoint(folder / name)
        save_checkpoint({**content, "saved_files": [*claimed[kind], "iter_8.pth"]}, folder / name)
    train(folder, resume=True, max_iters=16)
    assert outside.read_text() == beside.read_text() == "mine"
    assert load_checkpoint(folder / "last.pth")["saved_files"] == ["iter_8.pth", "iter_12.pth", "iter_16.pth"]


@pytest.mark.skipif(os.name != "posix", reason="locks of another system")
def test_a_process_of_the_same_number_in_another_container_is_another_process(tmp_path):
    import fcntl

    train(tmp_path, max_iters=4)
    holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": "today", "process": "of another container"}
    with open(tmp_path / LOCK, "w") as file:
        file.write(json.dumps(holder))
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(WorkDirInUse, match=f"process {os.getpid()} on {socket.gethostname()} since today"):
            build_runner(tiny_config(), work_dir=tmp_path, resume=True)


@pytest.fixture
def no_locks(monkeypatch):
    monkeypatch.setattr("openvocab.engine.work_dir.lock_file", lambda descriptor: None)


def test_without_locks_a_living_process_of_this_host_is_believed(tmp_path, no_locks):
    (tmp_path / LOCK).write_text(json.dumps({"pid": os.getppid(), "host": socket.gethostname(), "since": "today"}))
    with pytest.raises(WorkDirInUse, match=f"process {os.getppid()} on {socket.gethostname()} since today"):
        build_runner(tiny_config(), work_dir=tmp_path)


@pytest.mark.parametrize("pid", [2**22 - 1, os.getpid()], ids=["gone", "counted anew"])
def test_without_locks_a_dead_one_blocks_nobody_and_the_user_is_told(tmp_path, no_locks, caplog, pid):
    holder = {"pid": pid, "host": socket.gethostname(), "since": "today", "process": "of before"}
    (tmp_path / LOCK).write_text(json.dumps(holder))
    train(tmp_path, max_iters=4)
    log = next(tmp_path.glob("*/*.log")).read_text()
    assert "without locks" in log and f"process {pid} on" in log
    assert (tmp_path / LOCK).read_text() == ""  # who has ended says so
    train(tmp_path, max_iters=4, resume=True)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_config_in_its_own_work_dir_stays_as_it_is(tmp_path, overwrite):
    path = Path(config_file(tmp_path, max_iters=4).filename)
    (path.parent / "helpers.py").write_text("# mine")
    if overwrite:
        train(path.parent, max_iters=4)
    before = path.read_text()
    config = Config.fromfile(path)
    config.train_cfg.max_iters = 8  # as --cfg-options would
    runner = build_runner(config, work_dir=path.parent, overwrite=overwrite)
    runner.train()
    assert path.read_text() == before and (path.parent / "helpers.py").read_text() == "# mine"
    assert "max_iters=8" in (Path(runner._log_dir) / path.name).read_text()
