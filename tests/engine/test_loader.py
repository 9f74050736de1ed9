"""Loader workers that hang or die end the run in one line with worker, dataset and samples, and leave no process."""

import gc
import json
import multiprocessing
import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time

import pytest
from bounded_processes import run_bounded
from config_parts import REPOSITORY
from mmengine.config import Config
from tiny_run import SIZE, TinyDataset, tiny_config
from torch.utils.data import DataLoader

from openvocab.datasets.sampler import ResumableSampler
from openvocab.engine.loader import LOADER_TIMEOUT, LoaderFailed, batches_of
from openvocab.engine.runner import OpenVocabRunner, build_runner
from openvocab.engine.stopping import Stopped, StopRequest

SCRIPT = REPOSITORY / "tests" / "tiny_run.py"
DRAWS = [int(draw) for draw, _ in zip(ResumableSampler(range(SIZE), seed=3), range(40))]
"""What the tiny run draws; its batches are of 4, workers 0 and 1 take them in turn."""
BATCH_OF_WORKER_1 = DRAWS[12:16]
TRAIN = "loader worker 1 of 2 (train_dataloader, TinyDataset)"
FAILURES = {
    "hang": "has returned no batch for 1 s",
    "SIGKILL": "was killed by SIGKILL",
    "SIGSEGV": "was killed by SIGSEGV",
    "exit": "exited with code 3",
    "raise": r"\): ZeroDivisionError: nothing to divide by",
}


def runs() -> dict[str, dict]:
    """Return the options of a run for each way to fail: in training, and one in validation."""
    options = {"workers": 2, "timeout": 1}
    of_training = {kind: {**options, "trouble": {"kind": kind, "index": BATCH_OF_WORKER_1[1]}} for kind in FAILURES}
    return {**of_training, "validation": {**options, "val_trouble": {"kind": "hang", "index": 5}}}


@pytest.fixture(scope="module")
def ended(tmp_path_factory) -> dict[str, tuple[int, str]]:
    """Return exit status and output of each of `runs`."""
    folder = tmp_path_factory.mktemp("loader")
    trainings = [{"work_dir": str(folder / name), **options} for name, options in runs().items()]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    start = time.monotonic()
    output = run_bounded([sys.executable, str(SCRIPT), json.dumps(trainings)], env=environment, stderr=-2).stdout
    assert time.monotonic() - start < 30 * len(trainings)
    *outputs, last = output.split("ENDED\n")
    return dict(zip(runs(), zip(json.loads(last.removeprefix("STATUS")), outputs)))


@pytest.mark.parametrize("kind", FAILURES)
def test_a_worker_that_fails_ends_the_run_in_one_line(ended, kind):
    status, output = ended[kind]
    assert status == 1
    lines = [line.strip("\0 ") for line in output.splitlines()]  # torch's own about a crash ends in a zero byte
    (line,) = [line for line in lines if line.startswith("error: ")]
    assert line.startswith(f"error: {TRAIN}") and re.search(FAILURES[kind], line), line
    batch = [f"item-{index}" for index in BATCH_OF_WORKER_1]
    assert f"its batch: {', '.join(batch)}" in line or f"; the last sample it began: {batch[1]}" in line
    others = [line for line in lines if not line.startswith(("error: ", "LEFT", "ERROR: Unexpected seg"))]
    assert [line for line in others if line.strip()] == []  # no traceback
    assert "LEFT BEHIND []" in output


HAND_OVER = """
import socket, time
from multiprocessing import resource_sharer
from openvocab.engine.loader import silence_broken_connections
silence_broken_connections()
address, _ = resource_sharer.DupFd(0)._id
with socket.socket(socket.AF_UNIX) as parent:
    parent.connect(address)
time.sleep(0.5)
raise ValueError("of its own")
"""


def test_a_worker_whose_parent_breaks_off_prints_no_traceback(tmp_path):
    ended = subprocess.run([sys.executable, "-c", HAND_OVER], stdin=-3, stderr=-1, text=True, timeout=60)
    assert ended.stderr.count("Traceback") == 1 and ended.stderr.rstrip().endswith("ValueError: of its own")


KILLED_WORKERS = """
import sys
sys.path.insert(0, {tests!r})
from tiny_run import SIZE, TinyDataset
from openvocab.command_line import one_line_errors
from openvocab.engine.loader import batches_of
from openvocab.engine.runner import OpenVocabRunner

dataset = dict(type=TinyDataset, trouble=dict(kind="SIGKILL", index=SIZE - 1))
settings = dict(dataset=dataset, num_workers=2, batch_size=1, sampler=dict(type="DefaultSampler", shuffle=False))
with one_line_errors(), batches_of(OpenVocabRunner.build_dataloader(settings), "train_dataloader") as batches:
    list(batches)
"""


def test_workers_that_are_killed_leave_nothing_in_the_folder_for_temporary_files():
    """They have no folders of their own there, whose removal may also meet the thread that hands over a tensor."""
    script = KILLED_WORKERS.format(tests=str(REPOSITORY / "tests"))
    with tempfile.TemporaryDirectory() as folder:  # not pytest's: the path of a socket has a hundred letters at most
        ended = run_bounded([sys.executable, "-c", script], cwd=REPOSITORY, env={**os.environ, "TMPDIR": folder})
        assert ended.returncode == 1 and "was killed by SIGKILL" in ended.stderr
        assert [name for name in os.listdir(folder) if name.startswith("pymp-")] == []


def test_a_death_is_raised_where_the_next_batch_is_taken():
    """And not in the middle of a step, of a save, or of what is done about another error."""
    settings = dict(dataset=dict(type=TinyDataset), num_workers=1, batch_size=1, sampler=dict(type="DefaultSampler"))
    done = []
    with pytest.raises(LoaderFailed, match=r"worker 0 of 1 \(key, TinyDataset\) was killed by SIGKILL"):
        with batches_of(OpenVocabRunner.build_dataloader(settings, seed=0), "key") as batches:
            next(batches)
            (worker,) = batches.source._workers
            worker.kill()
            time.sleep(0.5)
            done.append("a step")
            list(batches)
    assert done == ["a step"]


@pytest.mark.parametrize("persistent", [False, True])
def test_a_worker_that_is_killed_with_the_lock_of_the_end_in_its_hands_holds_up_nothing(persistent):
    """Each worker takes it once for every batch; whoever waits for it then waits for ever."""
    settings = dict(dataset=dict(type=TinyDataset), num_workers=2, batch_size=1, persistent_workers=persistent)
    loader = OpenVocabRunner.build_dataloader({**settings, "sampler": dict(type="DefaultSampler")}, seed=0)
    with batches_of(loader, "key") as batches:
        list(batches)
    begin = time.monotonic()
    with pytest.raises(LoaderFailed, match="was killed by SIGKILL"), batches_of(loader, "key") as batches:
        next(batches)
        event = batches.source._workers_done_event._event
        event._cond.acquire()  # in the worker's place
        batches.source._workers[0].kill()
        list(batches)
    del batches, loader
    gc.collect()
    assert time.monotonic() - begin < 20 and multiprocessing.active_children() == []


def test_a_worker_that_is_killed_while_it_hands_over_ends_the_wait(tmp_path):
    """What it has written of a message is in the pipe, whose end comes only with its other writers'."""
    settings = dict(dataset=dict(type=TinyDataset), num_workers=2, batch_size=1, sampler=dict(type="DefaultSampler"))
    with pytest.raises(LoaderFailed, match="was killed by SIGKILL"):
        with batches_of(OpenVocabRunner.build_dataloader(settings, seed=0), "key") as batches:
            next(batches)
            for worker in batches.source._workers:
                os.kill(worker.pid, signal.SIGSTOP)
            queue = batches.source._worker_result_queue
            while queue._poll(0.5):
                queue._reader.recv_bytes()
            os.write(queue._writer.fileno(), struct.pack("!i", 1000))  # and nothing of the thousand bytes
            killer = threading.Timer(0.5, os.kill, (batches.source._workers[1].pid, signal.SIGKILL))
            killer.start()
            next(batches)


def test_a_worker_of_the_validation_too(ended):
    status, output = ended["validation"]
    assert status == 1 and "LEFT BEHIND []" in output
    expected = "error: loader worker 1 of 2 (val_dataloader, TinyDataset) has returned no batch for 1 s"
    assert f"{expected}; the last sample it began: item-5; if loading takes longer, set val_dataloader." in output
    assert "Traceback" not in output


def test_a_worker_of_a_test_too(tmp_path):
    config = tiny_config(workers=1, timeout=1)
    config.test_dataloader.dataset.trouble = dict(kind="SIGKILL", index=9)
    runner = build_runner(config, work_dir=tmp_path, training=False)
    expected = r"loader worker 0 of 1 \(test_dataloader, TinyDataset\) was killed.* sample it began: item-9"
    with pytest.raises(LoaderFailed, match=expected):
        runner.test()


def test_the_time_out_has_a_default_that_can_be_changed():
    loader = dict(dataset=TinyDataset(), sampler=dict(type="DefaultSampler", shuffle=False), batch_size=2)
    for settings, timeout in (({}, LOADER_TIMEOUT), ({"timeout": 7}, 7), ({"timeout": 0}, 0)):
        assert OpenVocabRunner.build_dataloader({**loader, "num_workers": 1, **settings}).timeout == timeout


def test_no_workers_is_one_setting_in_every_loader(tmp_path):
    config = tiny_config(max_iters=6)
    for key in ("train_dataloader", "val_dataloader", "test_dataloader"):
        config[key].update(num_workers=2, persistent_workers=True, prefetch_factor=4, timeout=9)
        config.merge_from_dict({f"{key}.num_workers": 0})
    runner = build_runner(config, work_dir=tmp_path)
    runner.train()
    runner.test()
    assert runner.train_dataloader.num_workers == runner.test_dataloader.num_workers == 0


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "configs" / "_base_" / "datasets").glob("*.py")), ids=lambda p: p.stem
)
def test_no_workers_is_one_setting_of_every_config(path):
    config = Config.fromfile(path)
    for key in ("train_dataloader", "val_dataloader", "test_dataloader"):
        if config.get(key):
            loader = {**config[key].to_dict(), "num_workers": 0, "dataset": TinyDataset()}
            loader["sampler"] = dict(type="DefaultSampler", shuffle=False)
            loader.pop("batch_sampler", None)
            assert len(list(OpenVocabRunner.build_dataloader(loader))) > 0


STOP_IN_A_QUEUE = """
import signal, sys
sys.path[:0] = [{tests!r}]
from tiny_run import TinyDataset
from openvocab.command_line import one_line_errors
from openvocab.engine.loader import batches_of
from openvocab.engine.runner import OpenVocabRunner
from openvocab.engine.stopping import StopRequest

class Signalling:
    def __enter__(self):  # a signal comes when the lock is taken, and before anyone knows
        queue._notempty = notempty
        notempty.acquire()
        signal.raise_signal(signal.SIGTERM)
    def __exit__(self, *error):
        raise AssertionError("unreachable")

settings = dict(dataset=dict(type=TinyDataset), num_workers=2, batch_size=1, sampler=dict(type="DefaultSampler"))
loader = OpenVocabRunner.build_dataloader(settings, seed=0)
with one_line_errors(), batches_of(loader, "train_dataloader") as batches:
    next(batches)
    queue = batches.source._index_queues[1]
    notempty, queue._notempty = queue._notempty, Signalling()
    for _ in range(3):
        next(batches)
"""


def test_a_signal_within_a_queue_of_torch_lets_the_process_end():
    """A lock that was left behind would hold torch, which asks the queues to end the workers, and Python's exit."""
    script = STOP_IN_A_QUEUE.format(tests=str(REPOSITORY / "tests"))
    ended = run_bounded([sys.executable, "-c", script], timeout=60, cwd=REPOSITORY)
    assert (ended.returncode, ended.stderr.strip()) == (143, "stopped by SIGTERM")


def test_a_signal_while_the_workers_start_waits_for_them():
    """Half an iterator has workers, and nothing that ends them."""

    class Signalling(ResumableSampler):
        def __iter__(self):
            os.kill(os.getpid(), signal.SIGTERM)
            seen.append("the handler has run")
            yield from super().__iter__()

    seen, dataset = [], TinyDataset()
    loader = DataLoader(dataset, num_workers=2, sampler=Signalling(dataset), collate_fn=list)
    try:
        with StopRequest().listening(), batches_of(loader, "test_dataloader"):
            seen.append("the work goes on")
    except Stopped as stop:
        assert stop.number == signal.SIGTERM
    assert seen == ["the handler has run"] and multiprocessing.active_children() == []
