"""A file is whole or as it was, and a leftover goes when, and only when, its writer is dead."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from openvocab.checkpoint.checkpoint import link_checkpoint, load_checkpoint, save_checkpoint
from openvocab.datasets.shapes.writing import write_shapes
from openvocab.files.atomic_files import ABANDONED_AFTER, put_in_place, remove_leftovers, replacing, temporary_sibling
from openvocab.text.embedding_cache import EmbeddingCache


def test_a_file_is_replaced_when_all_is_written(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with replacing(path) as file:
        file.write("é new")
        assert path.read_text() == "old"
    assert path.read_text(encoding="utf-8") == "é new" and list(tmp_path.iterdir()) == [path]


def test_after_an_error_nothing_has_changed(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with pytest.raises(KeyError), replacing(path, "wb") as file:
        file.write(b"half")
        raise KeyError
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_file_and_folder_reach_the_disk_in_order(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: calls.append(os.fstat(descriptor).st_ino) or fsync(descriptor))
    monkeypatch.setattr(os, "replace", lambda *paths: calls.append("replace") or replace(*paths))
    with replacing(tmp_path / "a") as file:
        file.write("a")
    assert calls == [(tmp_path / "a").stat().st_ino, "replace", tmp_path.stat().st_ino]


def test_a_new_file_has_the_usual_permissions(tmp_path):
    (tmp_path / "plain").touch()
    with replacing(tmp_path / "a"):
        pass
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_folder_appears_when_it_is_complete(tmp_path):
    with temporary_sibling(tmp_path / "set", Path.mkdir) as partial:
        (partial / "one").write_text("1")
        assert not (tmp_path / "set").exists()
        put_in_place(partial, tmp_path / "set")
    assert [path.name for path in tmp_path.iterdir()] == ["set"] and (tmp_path / "set" / "one").exists()


NAMES = ["n" * 251 + ".png", "é" * 127, "x" + "é" * 127, "漢" * 85, "a" * 100, "a"]


@pytest.mark.parametrize("host", ["node", "h" * 64, "h" * 200], ids=len)
@pytest.mark.parametrize("name", NAMES, ids=lambda name: f"{name[:2]}-{len(os.fsencode(name))}")
def test_any_name_that_a_file_may_have_can_be_written(tmp_path, monkeypatch, host, name):
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    with temporary_sibling(tmp_path / name, Path.touch) as temporary:
        beginning, _, ending = temporary.name.partition(f".{host}-")
        assert name.startswith(beginning) and re.fullmatch(rf"{os.getpid()}-[0-9a-f]{{8}}\.saving", ending)
        assert len(os.fsencode(temporary.name)) <= 255
        assert beginning == name or len(os.fsencode(temporary.name)) > 255 - len("漢".encode())
    with replacing(tmp_path / name) as file:
        file.write("whole")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    left = tmp_path / temporary.name
    left.touch()
    remove_leftovers(tmp_path)
    assert not left.exists()


WRITER = """
import sys, time
from pathlib import Path
from openvocab.files.atomic_files import put_in_place, temporary_sibling
path, create = Path(sys.argv[1]), getattr(Path, sys.argv[2])
with temporary_sibling(path, create) as temporary:
    print("begun", flush=True)
    sys.stdin.readline()
    put_in_place(temporary, path)
"""


@pytest.fixture(params=["touch", "mkdir"])
def writer(request, tmp_path):
    """A process in the middle of writing `tmp_path/slow`."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "slow"), request.param],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "begun\n"
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def write_a_checkpoint(folder: Path) -> None:
    save_checkpoint({"a": torch.ones(3)}, folder / "iter_1.pth")
    link_checkpoint(folder / "iter_1.pth", folder / "last.pth")


def write_a_file(folder: Path) -> None:
    with replacing(folder / "a") as file:
        file.write("a")


WRITES = {
    "checkpoint": write_a_checkpoint,
    "shapes": lambda folder: write_shapes(folder / "shapes", 0, 2, 2, 1, processes=1),
    "embeddings": lambda folder: EmbeddingCache(folder.parent).add(folder.name, {"cat": torch.ones(4)}),
    "file": write_a_file,
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_no_writer_removes_what_another_is_writing(writer, tmp_path, write):
    write(tmp_path)
    writer.stdin.write("\n")
    writer.stdin.flush()
    assert writer.wait(10) == 0 and (tmp_path / "slow").exists()


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_every_writer_removes_what_a_killed_one_left(writer, tmp_path, write):
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    (left,) = tmp_path.glob("slow.*.saving")
    write(tmp_path)
    assert not left.exists()


def test_what_another_host_left_goes_after_a_day(tmp_path):
    fresh, old = tmp_path / "x.elsewhere-1-0a.saving", tmp_path / "y.elsewhere-1-0b.saving"
    ours = tmp_path / f"z.{socket.gethostname()}-1-0c.saving"  # of a process that lives, but holds no lock
    for path in (fresh, old, ours):
        path.touch()
    day_ago = time.time() - ABANDONED_AFTER - 60
    os.utime(old, (day_ago, day_ago))
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [fresh]


@pytest.mark.parametrize("name", ["energy.saving", "a.b-c-0d.saving", "x.elsewhere-12-.saving", ".saving"])
def test_what_a_user_calls_so_stays(tmp_path, name):
    (tmp_path / name).mkdir()
    (tmp_path / name / "thesis.txt").touch()
    day_ago = time.time() - ABANDONED_AFTER - 60
    os.utime(tmp_path / name, (day_ago, day_ago))
    write_a_file(tmp_path)
    assert (tmp_path / name / "thesis.txt").exists()


def test_links_and_saves_of_many_threads_do_not_meet(tmp_path):
    """Each takes the others' names for leftovers where locking and creating are not one step."""
    content = {"weights": torch.arange(1000.0)}
    errors = []

    def work(number):
        try:
            for _ in range(20):
                save_checkpoint(content, tmp_path / f"iter_{number}.pth")
                link_checkpoint(tmp_path / f"iter_{number}.pth", tmp_path / "last.pth")
        except OSError as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert torch.equal(load_checkpoint(tmp_path / "last.pth")["weights"], content["weights"])
    assert len(list(tmp_path.iterdir())) == 5
