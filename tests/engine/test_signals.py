"""SIGTERM and SIGINT: a training saves where nothing is lost, says where, and ends; resumed, it is the same run."""

import ctypes
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from bounded_processes import run_bounded, started
from config_parts import REPOSITORY
from mmengine.hooks import Hook
from test_resume import assert_same_run
from tiny_run import SIZE, tiny_config

from openvocab.checkpoint.checkpoint import SaveFailed, load_checkpoint
from openvocab.datasets.sampler import ResumableSampler
from openvocab.engine.runner import build_runner
from openvocab.engine.stopping import COPIES_WITHIN, Stopped, StopRequest

SCRIPT = REPOSITORY / "tests" / "tiny_run.py"


def send(moment: str, step: int = 0, name: str = "SIGTERM", **options) -> dict:
    return {"send": {"moment": moment, "step": step, "name": name, **options}}


FIRST = int(next(iter(ResumableSampler(range(SIZE), seed=3))))
"""Index of the first sample that a tiny run draws."""
RUNS = {
    "everywhere": (
        {"ema": True},
        [
            send("before_train"),
            send("after_train_iter", 2, "SIGINT"),
            send("after_val_iter", 6),
            send("compute_metrics"),
            send("before_save_checkpoint", 8),
            send("after_val_iter", 12, "SIGINT"),
        ],
    ),
    "workers": (
        {"workers": 2, "amp": True},
        [
            {"trouble": {"kind": "signal parent", "index": FIRST}},
            send("after_train_iter", 4, group=True),
            {"trouble": {"kind": "signal parent", "index": (FIRST + 1) % SIZE}},
            send("after_val_iter", 6, "SIGINT", group=True),
        ],
    ),
    "accumulated": ({"accumulate": 2}, [send("after_train_iter", 4)]),
    "twice": (
        {},
        [
            send("after_train_iter", 5, times=2, apart=COPIES_WITHIN + 0.5),
            send("before_save_checkpoint", 8, "SIGINT", times=2, apart=COPIES_WITHIN + 0.5),
        ],
    ),
    "copied": ({}, [send("after_train_iter", 5, times=3), send("before_save_checkpoint", 8, "SIGINT", times=2)]),
    "late": ({}, [send("before_save_checkpoint", 16)]),
    "last validation": ({}, [send("after_val_iter", 16)]),
}
"""Options of a run, and how it is stopped again and again, each time after it was resumed."""


@dataclass
class Parts:
    """How the parts of a run that was stopped have ended."""

    statuses: list[int]
    outputs: list[str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("signals")


@pytest.fixture(scope="module")
def parts(folder) -> dict[str, Parts]:
    """Train each of `RUNS` once without, once with signals, in one go."""
    trainings = []
    for name, (options, stops) in RUNS.items():
        whole, stopped = ({"work_dir": str(folder / name / part), **options} for part in ("whole", "stopped"))
        trainings += [whole, *({**stopped, **stop, "resume": n > 0} for n, stop in enumerate(stops))]
        trainings.append({**stopped, "resume": True})
    command = [sys.executable, str(SCRIPT), json.dumps(trainings)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    output = run_bounded(command, env=environment, stderr=-2).stdout
    *outputs, last = output.split("ENDED\n")
    statuses = json.loads(last.removeprefix("STATUS"))
    ended = {}
    for name, (_, stops) in RUNS.items():
        count = len(stops) + 2
        ended[name] = Parts(statuses[:count], outputs[:count])
        statuses, outputs = statuses[count:], outputs[count:]
    return ended


@pytest.mark.parametrize("name", RUNS)
def test_stopped_and_resumed_equals_uninterrupted(parts, folder, name):
    statuses, output = parts[name].statuses, "".join(parts[name].outputs)
    assert (statuses[0], statuses[-1]) == (0, 0), output[-3000:]
    assert_same_run(folder / name / "whole", folder / name / "stopped")
    assert "Traceback" not in output and not list((folder / name / "stopped").glob("*.saving"))


def test_in_a_step_a_validation_a_metric_and_a_save_it_saves_and_says_where(parts, folder):
    ended = parts["everywhere"]
    assert ended.statuses[1:-1] == [143, 130, 143, 143, 143, 130]
    assert "stopped by SIGTERM\n" in ended.outputs[1]  # before the loop begins
    steps = [(2, "SIGINT", 3), (3, "SIGTERM", 6), (4, "SIGTERM", 6), (5, "SIGTERM", 8), (6, "SIGINT", 12)]
    for part, name, step in steps:
        path = folder / "everywhere" / "stopped" / f"iter_{step}.pth"
        assert f"stopped by {name} after step {step}: {path} holds it, --resume continues" in ended.outputs[part]


def test_loader_workers_live_until_it_has_saved(parts):
    ended = parts["workers"]
    assert ended.statuses[1:-1] == [143, 143, 143, 130]
    # while it waits for the first batch, or on a busy machine just before
    assert "stopped by SIGTERM" in ended.outputs[1] and "after step" not in ended.outputs[1]
    assert "stopped by SIGTERM after step 5" in ended.outputs[2]


def test_between_the_batches_of_a_step_it_is_not_stopped(parts):
    assert parts["accumulated"].statuses[1] == 143 and "after step 6" in parts["accumulated"].outputs[1]


def test_a_second_signal_ends_at_once(parts):
    assert parts["twice"].statuses[1:-1] == [143, 130]
    assert not any("holds it, --resume continues" in output for output in parts["twice"].outputs)


def test_a_signal_that_is_delivered_twice_is_one(parts, folder):
    assert parts["copied"].statuses[1:-1] == [143, 130]
    for part, step in ((1, 6), (2, 8)):
        path = folder / "copied" / "stopped" / f"iter_{step}.pth"
        assert f"after step {step}: {path} holds it, --resume continues" in parts["copied"].outputs[part]


def test_a_last_validation_that_was_stopped_is_done_when_it_is_resumed(parts, folder):
    assert parts["last validation"].statuses[1:] == [143, 0]
    best = [load_checkpoint(folder / "last validation" / part / "best.pth") for part in ("whole", "stopped")]
    assert best[0]["meta"]["iter"] == best[1]["meta"]["iter"] and best[0]["best_score"] == best[1]["best_score"]


def test_a_stopped_validation_that_the_config_has_no_more_is_left_out(tmp_path, monkeypatch):
    stopped = tiny_config(send=dict(moment="after_val_iter", step=12), max_iters=16)
    with pytest.raises(Stopped):
        build_runner(stopped, work_dir=tmp_path).train()
    config = tiny_config(max_iters=16)
    config.default_hooks["checkpoint"]["best"] = None
    config.update(val_cfg=None, val_dataloader=None, val_evaluator=None)
    build_runner(config, work_dir=tmp_path, resume=True).train()
    saved = load_checkpoint(tmp_path / "last.pth")
    assert saved["meta"]["iter"] == 16 and "unvalidated" not in saved["loop"]


def test_a_run_that_has_done_its_last_step_ends_as_usual(parts):
    assert parts["late"].statuses[1] == 0


def test_a_save_that_fails_when_a_signal_comes_is_an_error(tmp_path, monkeypatch):
    def fail(content, path):
        raise SaveFailed(f"cannot write {path}: disk full")

    monkeypatch.setattr("openvocab.engine.hooks.checkpoint_hook.save_checkpoint", fail)
    runner = build_runner(tiny_config(send=dict(moment="after_train_iter", step=1)), work_dir=tmp_path)
    with pytest.raises(SaveFailed, match="iter_2.pth: disk full"):
        runner.train()


def test_a_signal_that_is_ignored_stays_so(tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        send = dict(moment="after_train_iter", step=1, name="SIGINT")
        build_runner(tiny_config(max_iters=4, send=send), work_dir=tmp_path).train()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert (tmp_path / "iter_4.pth").exists()


def test_handlers_are_there_only_while_it_trains(tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    runner = build_runner(tiny_config(max_iters=4, send=dict(moment="after_train_iter")), work_dir=tmp_path)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
    with pytest.raises(Stopped) as caught:
        runner.train()
    assert caught.value.code == 143
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_another_thread_may_train(tmp_path):
    runner = build_runner(tiny_config(max_iters=4), work_dir=tmp_path)
    thread = threading.Thread(target=runner.train)
    thread.start()
    thread.join()
    assert load_checkpoint(tmp_path / "last.pth")["meta"]["iter"] == 4


def test_a_validation_with_a_users_own_preparation_is_finished_first(tmp_path):
    class Swap(Hook):
        depth = 0

        def before_val_epoch(self, runner):
            self.depth += 1

        def after_val_epoch(self, runner, metrics=None):
            self.depth -= 1

    swap = Swap()
    config = tiny_config(max_iters=8, send=dict(moment="after_val_iter", step=6))
    runner = build_runner(config, work_dir=tmp_path)
    runner.register_hook(swap)
    with pytest.raises(Stopped):
        runner.train()
    saved = load_checkpoint(tmp_path / "last.pth")
    assert swap.depth == 0 and saved["meta"]["iter"] == 6 and "unvalidated" not in saved["loop"]


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_every_tool_ends_in_one_line(tmp_path, name):
    command = [sys.executable, "tools/make_shapes.py", "--root", str(tmp_path / "shapes")]
    with started(command, cwd=REPOSITORY) as tool:
        while not list(tmp_path.glob("shapes.*.saving")):
            time.sleep(0.05)
            assert tool.poll() is None
        time.sleep(0.5)
        os.killpg(tool.pid, getattr(signal, name))
        _, errors = tool.communicate(timeout=30)
    assert tool.returncode == {"SIGTERM": 143, "SIGINT": 130}[name]
    assert errors.splitlines()[-1].endswith(f"stopped by {name}") and "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


def test_a_request_is_raised_when_the_holder_lets_go():
    stop = StopRequest()
    with stop.listening(), stop.held():
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.is_agreed()
        with stop.released(is_possible=False):
            pass
        with pytest.raises(Stopped) as caught, stop.released(is_possible=True):
            raise AssertionError("unreachable")
    assert caught.value.code == 130 and str(caught.value) == "stopped by SIGINT"


def test_a_child_that_waits_where_no_handler_of_pythons_runs_is_ended():
    """As one that a SIGTERM reaches just before it waits for a lock: a stress test meets it once in a hundred times."""

    def wait_for_ever():
        library, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
        library.pthread_mutex_lock(mutex)
        ready.set()
        library.pthread_mutex_lock(mutex)

    context = multiprocessing.get_context("fork")
    ready = context.Event()
    with StopRequest().listening():
        child = context.Process(target=wait_for_ever)
        child.start()
        assert ready.wait(30)
        time.sleep(0.2)
        child.terminate()
        child.join(10)
        exitcode = child.exitcode
        child.kill()
    assert exitcode == -signal.SIGTERM


def test_a_child_keeps_no_wake_up_and_its_parent_is_not_ended_by_its_signals():
    def be_signalled():
        os.kill(os.getpid(), signal.SIGINT)
        kept = signal.set_wakeup_fd(-1)
        os._exit(kept + 1)

    stop = StopRequest()
    with stop.listening(), stop.held():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(COPIES_WITHIN + 0.1)
        child = multiprocessing.get_context("fork").Process(target=be_signalled)
        child.start()
        child.join(10)
        time.sleep(0.2)  # for the thread that would end this process
    assert child.exitcode == 0 and stop.number == signal.SIGINT


def test_a_child_keeps_the_handler_that_a_host_has_put_in_the_place_of_ours():
    def handle(number, frame):
        os._exit(7)

    with StopRequest().listening():
        signal.signal(signal.SIGTERM, handle)
        child = multiprocessing.get_context("fork").Process(target=lambda: os.kill(os.getpid(), signal.SIGTERM))
        child.start()
        child.join(10)
    assert child.exitcode == 7


def test_a_second_signal_that_another_request_takes_ends_nothing_by_itself(monkeypatch):
    """The thread that would end the process looks after the other request has ended, as it may on a busy machine."""
    look = signal.getsignal

    def look_late(number):
        if threading.current_thread() is not threading.main_thread():
            time.sleep(0.3)
        return look(number)

    def stop_twice():
        with pytest.raises(Stopped), StopRequest().listening():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            except Stopped:
                with pytest.raises(Stopped), StopRequest(is_second=True).listening():
                    time.sleep(COPIES_WITHIN + 0.1)
                    os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0.6)  # where the children are killed and the one line is written
                raise
        os._exit(7)

    monkeypatch.setattr(signal, "getsignal", look_late)
    child = multiprocessing.get_context("fork").Process(target=stop_twice)
    child.start()
    child.join(20)
    assert child.exitcode == 7
