"""tools/repeat.py: several seeds of a config as a user would run them, and the table of their metrics."""

import json
import os
import signal
import subprocess
import sys
import time
from unittest.mock import Mock

import pytest
from tool_runs import LSEG_SHAPES, REPOSITORY, run_tool, tiny_lseg_options, write_tiny_shapes

sys.path.insert(0, str(REPOSITORY / "tools"))  # as running the tool does

from repeats import processes, seed_run
from repeats.start_files import text_settings
from repeats.summary import markdown_table, spread

from openvocab.checkpoint.checkpoint import load_checkpoint, save_checkpoint
from openvocab.config.options import read_options
from openvocab.engine.stopping import COPIES_WITHIN
from openvocab.engine.work_dir import LOCK

TRAIN = """
import json, os, pathlib, shutil, signal, sys, time
def after(name):
    return sys.argv[sys.argv.index(name) + 1]
folder = pathlib.Path(after("--work-dir"))
with open(folder / "calls.txt", "a") as file:
    file.write(" ".join(sys.argv[4:]) + f" threads={os.environ.get('OMP_NUM_THREADS')}\\n")
if (folder.parent / "stubborn").exists():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
options = sys.argv[sys.argv.index("--cfg-options") + 1:] if "--cfg-options" in sys.argv else []
(folder / "options.json").write_text(json.dumps(options))
print("step 1", flush=True)
while (folder.parent / f"wait_{after('--seed')}").exists():
    time.sleep(0.05)
(folder / "iter_1.pth").touch()
while (folder.parent / "hang").exists():
    time.sleep(0.05)
print("step 2\\nstep 3", flush=True)
if (folder.parent / f"fail_{after('--seed')}").exists():
    sys.exit("error: no space left")
dtype = "bfloat16" if "bf16" in sys.argv else "float32"
shutil.copy(pathlib.Path(__file__).parent / f"{dtype}.pth", folder / "last.pth"), (folder / "best.pth").touch()
"""
TEST = """
import json, pathlib, sys
out = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
checkpoint = pathlib.Path(sys.argv[2])
assert checkpoint.is_file()
seed = int(checkpoint.parent.name.removeprefix("seed_"))
out.write_text(json.dumps({"mIoU": 10.0 + seed**2, "novel": None if seed else 1.0, "protocol": {"images": 4}}))
"""


@pytest.fixture(autouse=True)
def signal_handlers():
    """Put back what the tool sets for its process."""
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def quick_tools(tmp_path, monkeypatch):
    """Replace tools/train.py and tools/test.py by scripts that note how they were called; return the work dir."""
    folder = tmp_path / "tools"
    folder.mkdir()
    (folder / "train.py").write_text(TRAIN)
    (folder / "test.py").write_text(TEST)
    for dtype in ("float32", "bfloat16"):
        save_checkpoint({"meta": {"compute_dtype": dtype, "num_threads": 3}}, folder / f"{dtype}.pth")
    monkeypatch.setattr(seed_run, "TOOLS", folder)
    monkeypatch.delenv("OPENVOCAB_TRACEBACK", raising=False)
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


def repeat(work_dir, *arguments) -> int:
    return run_tool("repeat", LSEG_SHAPES, "--work-dir", work_dir, *arguments)


def start_repeat(work_dir, *arguments) -> subprocess.Popen:
    """Start the tool as a process of its own, with the quick tools."""
    script = (
        f"import sys; sys.path.insert(0, {str(REPOSITORY / 'tools')!r}); import pathlib, repeats.seed_run, runpy; "
        f"repeats.seed_run.TOOLS = pathlib.Path({str(seed_run.TOOLS)!r}); sys.argv = sys.argv[1:]; "
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = (REPOSITORY / "tools" / "repeat.py", LSEG_SHAPES, "--work-dir", work_dir, *arguments)
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return subprocess.Popen([sys.executable, "-c", script, *map(str, command)], **pipes, text=True)


def calls(work_dir, seed) -> list[str]:
    """Return the options of every training that was started for a seed."""
    return (work_dir / f"seed_{seed}" / "calls.txt").read_text().splitlines()


def test_a_seed_of_the_real_tools(tmp_path, capfd):
    options = tiny_lseg_options(write_tiny_shapes(tmp_path / "shapes"))
    assert repeat(tmp_path / "runs", "--seeds", 1, "--checkpoint", "last", *options) == 0
    table = json.loads((tmp_path / "runs" / "table.json").read_text())
    metrics = json.loads((tmp_path / "runs" / "seed_0" / "metrics_last.json").read_text())
    assert {name: entry["mean"] for name, entry in table["metrics"].items()} == {
        name: value for name, value in metrics.items() if name not in ("per_class", "protocol")
    }
    assert table["train_seconds"][0] > 0 and table["protocol"]["images"] == 4
    chosen = load_checkpoint(tmp_path / "runs" / "seed_0" / "last.pth")["meta"]["compute_dtype"]  # of the config's auto
    assert [machine["precision"] for machine in table["machines"]] == [chosen] and chosen in ("float32", "bfloat16")
    assert f"| mIoU (%) | {metrics['mIoU']:.2f} | – |" in capfd.readouterr().out


def test_the_table_holds_mean_and_spread_of_every_metric(quick_tools, capfd):
    assert repeat(quick_tools, "--seeds", 0, 1, 3, "--amp", "bf16") == 0
    table = json.loads((quick_tools / "table.json").read_text())
    # 10, 11, 19: mean 40 / 3, squared distances 11.11 + 5.44 + 32.11 = 48.67, divided by 2
    assert table["metrics"]["mIoU"]["mean"] == pytest.approx(13.3333, abs=1e-4)
    assert table["metrics"]["mIoU"]["sd"] == pytest.approx(4.9329, abs=1e-4)
    assert table["metrics"]["novel"] == {"mean": None, "sd": None, "values": [1.0, None, None]}
    assert table["protocol"] == {"images": 4} and table["machines"][0]["precision"] == "bfloat16"
    out, errors = capfd.readouterr()
    assert "| mIoU | 13.33 | 4.93 | 10.00 | 11.00 | 19.00 |" in out
    assert "| novel | – | – | 1.00 | – | – |" in out
    assert "seed 0 is done; 2 left, about" in errors and "[seed 0] step 1" in errors
    assert out.startswith("| metric |") and "step 1" not in out
    assert all(f"--seed {seed} --amp bf16" in calls(quick_tools, seed)[0] for seed in (0, 1, 3))


def test_one_seed_has_no_spread():
    assert spread([4.0]) == {"mean": 4.0, "sd": None, "values": [4.0]}


def test_finished_seeds_are_not_run_again(quick_tools):
    assert repeat(quick_tools, "--seeds", 1) == 0
    assert repeat(quick_tools, "--seeds", 2) == 0
    assert len(calls(quick_tools, 0)) == len(calls(quick_tools, 1)) == 1
    assert repeat(quick_tools, "--seeds", 2, "--checkpoint", "last") == 0  # only tests
    assert len(calls(quick_tools, 0)) == 1 and (quick_tools / "seed_0" / "metrics_last.json").is_file()


def test_a_failing_seed_stops_with_one_line_and_is_resumed(quick_tools, capfd):
    (quick_tools / "fail_1").touch()
    message = repeat(quick_tools, "--seeds", 3)
    assert message.count("\n") == 0 and "exit code 1: error: no space left" in message
    assert (quick_tools / "seed_0" / "metrics_best.json").is_file() and not (quick_tools / "seed_2").exists()
    assert not (quick_tools / "table.json").exists()
    assert "error: no space left" in (quick_tools / "seed_1" / "output.txt").read_text()

    (quick_tools / "fail_1").unlink()
    assert repeat(quick_tools, "--seeds", 3) == 0
    assert ["--resume" in call for call in calls(quick_tools, 1)] == [False, True]
    assert [len(calls(quick_tools, seed)) for seed in range(3)] == [1, 2, 1]
    table = json.loads((quick_tools / "table.json").read_text())
    assert table["train_seconds"][1] is None  # how long its first part took is not known


def test_other_settings_in_the_same_folder_are_refused(quick_tools, capfd):
    assert repeat(quick_tools, "--seeds", 1) == 0
    assert repeat(quick_tools, "--seeds", 1, "--cfg-options", "train_cfg.max_iters=9") == 2
    error = capfd.readouterr().err
    assert "seed_0 was made with other settings (config: " in error and "max_iters=9" in error
    assert repeat(quick_tools, "--seeds", 1, "--amp", "bf16") == 2
    assert "(amp: None then, bf16 now)" in capfd.readouterr().err
    assert len(calls(quick_tools, 0)) == 1


def test_metrics_are_not_those_of_other_settings_where_weights_are_gone(quick_tools, capfd):
    assert repeat(quick_tools, "--seeds", 1) == 0
    for path in (quick_tools / "seed_0").glob("*.pth"):
        path.unlink()
    assert repeat(quick_tools, "--seeds", 1) == 0
    assert repeat(quick_tools, "--seeds", 1, "--amp", "bf16") == 2
    assert "(amp: None then, bf16 now)" in capfd.readouterr().err
    assert len(calls(quick_tools, 0)) == 1


def test_a_seed_that_is_trained_anew_is_tested_anew(quick_tools):
    assert repeat(quick_tools, "--seeds", 1) == 0
    for path in [*(quick_tools / "seed_0").glob("*.pth"), quick_tools / "seed_0" / "repeat.json"]:
        path.unlink()
    for name in ("metrics_best.json", "metrics_last.json"):
        (quick_tools / "seed_0" / name).write_text('{"mIoU": 99.0}')
    assert repeat(quick_tools, "--seeds", 1) == 0
    assert json.loads((quick_tools / "table.json").read_text())["metrics"]["mIoU"]["values"] == [10.0]
    assert not (quick_tools / "seed_0" / "metrics_last.json").exists()


def test_a_second_call_is_told_who_works_on_a_seed_and_changes_nothing(quick_tools, capfd):
    (quick_tools / "wait_0").touch()
    first = start_repeat(quick_tools, "--seeds", 1, "--cfg-options", "train_cfg.max_iters=9")
    wait_for(quick_tools / "seed_0" / "options.json")  # nothing is saved yet
    record = (quick_tools / "seed_0" / "repeat.json").read_bytes()
    assert repeat(quick_tools, "--seeds", 2) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert f"another tools/repeat.py works in {quick_tools}/seed_0: process {first.pid} on" in line
    assert (quick_tools / "seed_0" / "repeat.json").read_bytes() == record and len(calls(quick_tools, 0)) == 1
    assert not (quick_tools / "seed_1").exists()
    assert repeat(quick_tools, "--seeds", 2, 3) == 0  # other seeds are nobody's
    (quick_tools / "wait_0").unlink()
    out, errors = first.communicate(timeout=60)
    assert first.returncode == 0 and "max_iters=9" in json.loads(record)["settings"]["config"], errors
    assert repeat(quick_tools, "--seeds", 1) == 2
    assert "seed_0 was made with other settings (config: " in capfd.readouterr().err


def test_a_training_that_outlived_its_repeat_keeps_its_record(quick_tools, capfd):
    folder = quick_tools / "seed_0"
    folder.mkdir()
    (folder / "repeat.json").write_text('{"settings": {"amp": "bf16"}}')
    with open(folder / LOCK, "w") as file:  # the training's own
        file.write('{"pid": 77, "host": "here", "since": "then"}')
    script = (
        f"import fcntl, sys; file = open({str(folder / LOCK)!r}, 'r+'); fcntl.flock(file, fcntl.LOCK_EX); "
        "print(flush=True); sys.stdin.read()"
    )
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with subprocess.Popen([sys.executable, "-c", script], **pipes) as training:
        training.stdout.readline()
        assert repeat(quick_tools, "--seeds", 1) == 2
        assert f"another training runs in {folder}: process 77 on here since then" in capfd.readouterr().err
        assert (folder / "repeat.json").read_text() == '{"settings": {"amp": "bf16"}}'
        training.stdin.close()
    assert repeat(quick_tools, "--seeds", 1) == 0


def test_a_run_of_the_train_tool_alone_is_not_taken_for_a_seed(quick_tools, capfd):
    (quick_tools / "seed_0").mkdir()
    (quick_tools / "seed_0" / "last.pth").touch()
    assert repeat(quick_tools, "--seeds", 1) == 2
    assert "seed_0 was made with other settings" in capfd.readouterr().err
    assert not (quick_tools / "seed_0" / "calls.txt").exists()


def test_a_mistake_that_saved_nothing_binds_nobody(quick_tools):
    (quick_tools / "fail_0").touch()
    assert repeat(quick_tools, "--seeds", 1, "--cfg-options", "train_cfg.max_iters=9") != 0
    (quick_tools / "seed_0" / "iter_1.pth").unlink()
    (quick_tools / "fail_0").unlink()
    assert repeat(quick_tools, "--seeds", 1) == 0
    assert "--resume" not in calls(quick_tools, 0)[1]


def test_seeds_start_from_another_config_s_run_of_the_same_seed(quick_tools, capfd):
    clip = REPOSITORY / "configs" / "clip_shapes.py"
    assert run_tool("repeat", clip, "--seeds", 4, 7, "--work-dir", quick_tools / "clip") == 0
    assert repeat(quick_tools / "lseg", "--seeds", 7, 4, "--after", quick_tools / "clip") == 0
    file = quick_tools / "clip" / "seed_7" / "last.pth"
    (call,) = calls(quick_tools / "lseg", 7)
    assert f"model.backbone.pretrained={file} model.text_encoder.pretrained={file}" in call
    assert repeat(quick_tools / "lseg", "--seeds", 4, 5, "--after", quick_tools / "clip") == 2
    assert "seed 5 is not trained there" in capfd.readouterr().err


def test_a_config_may_start_from_two_others_and_name_places_by_its_seed(quick_tools):
    configs = REPOSITORY / "configs"
    clip, detector = quick_tools / "clip", quick_tools / "detector"
    assert run_tool("repeat", configs / "clip_shapes.py", "--seeds", 4, 7, "--work-dir", clip) == 0
    assert run_tool("repeat", configs / "vild_text_shapes.py", "--seeds", 4, 7, "--work-dir", detector) == 0
    arguments = (configs / "vild_shapes.py", "--seeds", 4, 7, "--work-dir", quick_tools / "vild")
    folder = quick_tools / "regions_{seed}"
    arguments += ("--after", clip, detector, "--cfg-options", f"teacher.folder={folder}")
    assert run_tool("repeat", *arguments) == 0
    for seed in (4, 7):
        (call,) = calls(quick_tools / "vild", seed)
        assert f"teacher.folder={quick_tools}/regions_{seed} " in call
        assert f" teacher.pretrained={clip}/seed_{seed}/last.pth" in call
        assert f" teacher.proposals.checkpoint={detector}/seed_{seed}/last.pth" in call
    assert run_tool("repeat", *arguments) == 0  # nothing is left to do
    settings = json.loads((quick_tools / "vild" / "seed_7" / "repeat.json").read_text())["settings"]
    assert ["clip" in earlier["config"] for earlier in settings["after"]] == [True, True]
    assert [earlier["seed"] for earlier in settings["after"]] == [7, 7]


def test_paths_reach_the_tools_unchanged(quick_tools):
    clip = REPOSITORY / "configs" / "clip_shapes.py"
    earlier = quick_tools / "my runs, old [1] a=b"
    assert run_tool("repeat", clip, "--seeds", 1, "--work-dir", earlier) == 0
    options = ("--cfg-options", "train_dataloader.dataset.root=/data/my shapes")
    options += ("--cfg-options", 'test_dataloader.dataset.root="/data/a, b"')  # a second one adds to the first
    assert repeat(quick_tools / "lseg", "--seeds", 1, "--after", earlier, *options) == 0
    given = read_options(json.loads((quick_tools / "lseg" / "seed_0" / "options.json").read_text()))
    assert given == {
        "train_dataloader.dataset.root": "/data/my shapes",
        "test_dataloader.dataset.root": "/data/a, b",
        "model.backbone.pretrained": f"{earlier}/seed_0/last.pth",
        "model.text_encoder.pretrained": f"{earlier}/seed_0/last.pth",
    }


def test_a_config_that_starts_from_nothing_of_the_other_is_told_so(quick_tools, capfd):
    assert repeat(quick_tools / "lseg", "--seeds", 1) == 0
    clip = REPOSITORY / "configs" / "clip_shapes.py"
    arguments = (clip, "--seeds", 1, "--work-dir", quick_tools / "clip", "--after", quick_tools / "lseg")
    assert run_tool("repeat", *arguments) == 2
    assert "no setting of the config names a file in work_dirs/lseg_shapes" in capfd.readouterr().err


@pytest.mark.parametrize(("given", "threads"), [(None, 4), ("6", 3), ("6,2", 3), ("1", 1)])
def test_jobs_share_the_available_cores_or_the_threads_that_the_user_gives(quick_tools, monkeypatch, given, threads):
    monkeypatch.setattr("openvocab.process.processor_cores._affinity", lambda: range(9))
    monkeypatch.setattr("openvocab.process.processor_cores._quota", lambda folder: None)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert repeat(quick_tools, "--seeds", 2, "--jobs", 2) == 0
    assert [calls(quick_tools, seed)[0].endswith(f" threads={threads}") for seed in (0, 1)] == [True, True]


def test_the_table_names_the_threads_that_the_training_had(quick_tools, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert repeat(quick_tools, "--seeds", 1) == 0
    table = json.loads((quick_tools / "table.json").read_text())
    assert [machine["threads"] for machine in table["machines"]] == [3]


def test_a_mistake_is_one_line(quick_tools, capfd):
    assert repeat(quick_tools, "--seeds", 1, 1) == 2
    assert "--seeds: expected at least one, and each only once" in capfd.readouterr().err
    assert repeat(quick_tools, "--seeds", 1, "--cfg-options", "train_cfg.max_itres=9") == 2
    assert "max_itres" in capfd.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_ended_by_a_signal_it_leaves_no_training_behind(quick_tools, number):
    (quick_tools / "hang").touch()
    process = start_repeat(quick_tools, "--seeds", 2)
    wait_for(quick_tools / "seed_0" / "iter_1.pth")
    os.kill(process.pid, number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert f"stopped by {number.name}; the same command continues from here" in errors
    assert not (quick_tools / "seed_1").exists()
    (quick_tools / "hang").unlink()
    time.sleep(0.3)
    assert not (quick_tools / "seed_0" / "last.pth").exists()  # the training is gone


def test_a_second_signal_ends_a_training_that_does_not_end(quick_tools):
    (quick_tools / "hang").touch(), (quick_tools / "stubborn").touch()
    process = start_repeat(quick_tools, "--seeds", 1)
    wait_for(quick_tools / "seed_0" / "iter_1.pth")
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(COPIES_WITHIN + 0.5)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in errors
    (quick_tools / "hang").unlink()
    time.sleep(0.3)
    assert not (quick_tools / "seed_0" / "last.pth").exists()


def test_a_hang_up_that_is_ignored_stays_so(quick_tools):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    assert repeat(quick_tools, "--seeds", 1) == 0
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_an_output_file_that_cannot_be_written_costs_one_warning(quick_tools, capfd):
    (quick_tools / "seed_0").mkdir()
    (quick_tools / "seed_0" / "output.txt").symlink_to("/dev/full")
    assert repeat(quick_tools, "--seeds", 2) == 0
    out, errors = capfd.readouterr()
    assert errors.count("seed_0/output.txt") == 1 and "No space left on device" in errors
    assert "[seed 0] step 3" in errors and "| mIoU | 10.50 |" in out


def test_all_seeds_are_done_when_nobody_reads_stderr(quick_tools):
    (quick_tools / "hang").touch()
    process = start_repeat(quick_tools, "--seeds", 2)
    while "step 1" not in (line := process.stderr.readline()):
        assert line, "it ended early"
    process.stderr.close()  # as `2>&1 | head -5` does
    (quick_tools / "hang").unlink()
    process.stderr = None
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0 and "| mIoU | 10.50 |" in out
    logs = [(quick_tools / f"seed_{seed}" / "output.txt").read_text() for seed in (0, 1)]
    assert "".join(logs).count("stderr cannot be written ([Errno 32] Broken pipe)") == 1
    assert all("step 3\n" in log for log in logs)


def test_an_error_in_between_ends_the_tool_it_waits_for(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "say", Mock(side_effect=MemoryError))
    program = "import time\nprint('step 1', flush=True)\ntime.sleep(600)"
    with pytest.raises(MemoryError):
        processes.Processes().run([sys.executable, "-c", program], os.environ, tmp_path / "output.txt", "")


def wait_for(path, seconds=60):
    """Wait until a file is there."""
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"no {path}"
        time.sleep(0.05)


def test_settings_are_named_by_their_place():
    config = {"model": {"backbone": {"pretrained": "a"}, "layers": [1, {"path": "b"}]}, "seed": 3}
    assert dict(text_settings(config)) == {"model.backbone.pretrained": "a", "model.layers.1.path": "b"}


def test_a_table_without_times_says_so():
    table = markdown_table(
        {
            "config": "c.py",
            "checkpoint": "last",
            "seeds": [0],
            "metrics": {"top1": spread([2.5])},
            "train_seconds": [None],
            "machines": [{"device": "CPU", "threads": 2, "torch": "2.14", "precision": "float32"}],
        }
    )
    assert table.splitlines()[2] == "| top1 | 2.50 | – | 2.50 |"
    assert "unknown, the runs were interrupted" in table and "CPU, 2 threads, torch 2.14, float32" in table
