"""A training reports itself in its work dir, whatever the head; nothing of that changes or ends the training."""

import csv
import errno
import json
import math
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
import torch
from bounded_processes import run_bounded
from config_parts import REPOSITORY
from PIL import Image
from tiny_run import tiny_config

from openvocab.checkpoint.checkpoint import load_checkpoint
from openvocab.config.config import read_config
from openvocab.datasets.shapes.writing import write_shapes
from openvocab.engine.runner import build_runner
from openvocab.engine.stopping import Stopped
from openvocab.engine.work_dir import REPORT_FILES
from openvocab.report import files, run_report

HEADS = {"lseg_shapes": "mIoU", "vild_text_shapes": "ovd_box_AP50_base", "clip_shapes": "top1"}
PICTURES = {"lseg_shapes": "confusion_matrix.png", "vild_text_shapes": "precision_recall.png"}
FULL_FROM_3_TO_9 = {"type": "FullDisk", "first": 3, "last": 9}
SCRIPT = REPOSITORY / "tests" / "tiny_run.py"


@pytest.fixture(scope="module")
def shapes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "shapes"
    write_shapes(folder, seed=0, num_train=24, num_val=4)
    return folder


def shapes_run(name: str, shapes: Path, work_dir: Path, overwrite: bool = False, **options):
    """Train a config of Shapes for four steps from random weights, with two validations."""
    overrides = {f"{part}_dataloader.dataset.root": str(shapes) for part in ("train", "val", "test")}
    overrides |= {f"model.{part}.pretrained": None for part in ("backbone", "text_encoder") if name != "clip_shapes"}
    overrides |= {"train_cfg.max_iters": 4, "train_cfg.val_interval": 2, "train_dataloader.batch_size": 4}
    overrides |= {"param_scheduler.0.end": 2, "param_scheduler.1.begin": 2, "param_scheduler.1.end": 4}
    overrides |= {"default_hooks.checkpoint.interval": 2, "default_hooks.logger.interval": 1, "optim_wrapper.amp": None}
    config = read_config(REPOSITORY / "configs" / f"{name}.py", {**overrides, **options})
    runner = build_runner(config, work_dir=work_dir, overwrite=overwrite)
    runner.train()
    return runner


@pytest.fixture(scope="module")
def runs(shapes, tmp_path_factory) -> dict[str, Path]:
    """The work dirs of one run per kind of head."""
    folder = tmp_path_factory.mktemp("runs")
    for name in HEADS:
        shapes_run(name, shapes, folder / name)
    return {name: folder / name for name in HEADS}


def read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def logged_numbers(work_dir: Path) -> dict[int, dict[str, float]]:
    """Return {iteration: numbers} of all `scalars.json` of a work dir; later lines of an iteration win."""
    numbers: dict[int, dict[str, float]] = {}
    for path in sorted(work_dir.rglob("scalars.json")):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            is_validation = "iter" not in row
            for key in ("iter", *(("time", "data_time") if is_validation else ())):
                row.pop(key, None)
            numbers.setdefault(row.pop("step"), {}).update(row)
    return numbers


@pytest.mark.parametrize("name", HEADS)
def test_the_table_holds_every_logged_number_to_the_bit(runs, name):
    rows = read_csv(runs[name] / "results.csv")
    expected = logged_numbers(runs[name])
    assert [int(row["iteration"]) for row in rows] == sorted(expected) == [1, 2, 3, 4]
    for row in rows:
        values = {title.split(" (")[0]: float(text) for title, text in row.items() if text and title != "iteration"}
        finite = {key: value for key, value in expected[int(row["iteration"])].items() if not math.isnan(value)}
        assert values == finite
    assert f"{HEADS[name]} (%)" in rows[0] and "time (s)" in rows[0] and "lr" in rows[0]


@pytest.mark.parametrize("name", HEADS)
def test_every_class_has_a_row_of_the_best_and_the_last_validation(runs, name):
    rows = read_csv(runs[name] / "per_class.csv")
    vocabulary = load_checkpoint(runs[name] / "last.pth")["meta"]["class_names"] or []
    assert len({row["class"] for row in rows}) == len(rows) >= max(36, len(vocabulary))
    scores = [title for title in rows[0] if title.endswith("(%)")]
    evaluated = {title.removeprefix("best ").removeprefix("last ") for title in scores}
    assert len(scores) in (len(evaluated), 2 * len(evaluated)) and evaluated


@pytest.mark.parametrize("name", HEADS)
def test_the_page_holds_all_pictures_and_needs_no_other_file(runs, name):
    names = ["curves.png", "val_predictions.png", *(f"train_batch_{number}.png" for number in range(3))]
    names += [PICTURES.get(name, "confusion_matrix.png")]
    for picture in names:
        image = Image.open(runs[name] / picture)
        assert min(image.size) > 300 and len(image.convert("RGB").getcolors(1 << 24)) > 10
    page = (runs[name] / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/") == len(names)
    assert not any(part in page for part in ("<script", "http:", "https:", "<link", "@import"))
    assert HEADS[name] in page and f"{runs[name] / 'best.pth'}" in page and "finished at iteration 4" in page


def test_the_log_ends_with_the_best_score_and_the_next_commands(runs):
    (log,) = runs["lseg_shapes"].glob("*/*.log")
    best, took, test, predict = log.read_text().splitlines()[-4:]
    rows = read_csv(runs["lseg_shapes"] / "results.csv")
    score, iteration = max((float(row["mIoU (%)"]), -int(row["iteration"])) for row in rows if row["mIoU (%)"])
    assert f"best mIoU: {score:.2f} % at iteration {-iteration}: " in best and "best.pth" in best
    assert "took " in took and "report.html" in took
    assert "test.py" in test and "--out" in test and "best.pth" in predict
    names = [row["class"] for row in read_csv(runs["lseg_shapes"] / "per_class.csv")]
    assert f"photo.jpg --classes '{', '.join(names[:4])}' " in predict  # its own, not any
    (log,) = runs["clip_shapes"].glob("*/*.log")
    assert "photo.jpg" not in log.read_text()  # whole images are classified: no class is found in a photo


def test_the_training_is_the_same_to_the_bit_without_a_report(runs, shapes, tmp_path):
    shapes_run("lseg_shapes", shapes, tmp_path, **{"default_hooks.report": None})
    with_report, without = (load_checkpoint(folder / "last.pth") for folder in (runs["lseg_shapes"], tmp_path))
    assert "report" in with_report and not list(tmp_path.glob("*.csv"))
    for name, weight in without["state_dict"].items():
        assert torch.equal(weight, with_report["state_dict"][name]), name
    states = [repr(content["random_states"]) for content in (with_report, without)]
    assert states[0] == states[1] and with_report["best_score"] == without["best_score"]


def test_a_new_run_moves_all_files_of_the_report_of_the_old_one(runs, shapes, tmp_path):
    shutil.copytree(runs["lseg_shapes"], tmp_path, dirs_exist_ok=True)
    before = {path.name for path in tmp_path.iterdir() if path.suffix in (".csv", ".png", ".html")}
    shapes_run("lseg_shapes", shapes, tmp_path, overwrite=True, **{"default_hooks.report.num_batches": 0})
    (earlier,) = tmp_path.glob("earlier-*")
    assert before <= {path.name for path in earlier.iterdir()} and len(before) == 9
    assert not list(tmp_path.glob("train_batch_*"))  # none of the old run is left in the new one's report
    written = {path.name for run in runs.values() for path in run.iterdir() if path.suffix in (".csv", ".png", ".html")}
    patterns = [pattern.replace("*", "0") for pattern in REPORT_FILES]
    assert {name.replace("_1.", "_0.").replace("_2.", "_0.") for name in written} == set(patterns)


def tiny(work_dir: Path, resume: bool = False, **options):
    config = tiny_config(verbose=True, hooks=[dict(type="ReportHook", **options.pop("report", {}))], **options)
    runner = build_runner(config, work_dir=work_dir, resume=resume)
    runner.train()
    return runner


def test_results_of_a_run_without_a_checkpoint_are_moved_aside(tmp_path):
    (tmp_path / "results.csv").write_text("iteration,loss\n1,2\n")
    tiny(tmp_path, max_iters=6)
    (earlier,) = tmp_path.glob("earlier-*")
    assert (earlier / "results.csv").read_text() == "iteration,loss\n1,2\n"
    assert len(read_csv(tmp_path / "results.csv")) == 6


def without_times(work_dir: Path) -> list[dict[str, str]]:
    rows = read_csv(work_dir / "results.csv")
    return [{title: text for title, text in row.items() if "(s)" not in title} for row in rows]


def test_a_run_that_was_stopped_and_resumed_reports_the_whole_run_once(tmp_path):
    tiny(tmp_path / "whole")
    send = dict(moment="after_train_iter", step=7)
    with pytest.raises(Stopped):
        tiny(tmp_path / "parts", send=send)
    page = (tmp_path / "parts" / "report.html").read_text()
    assert "stopped by SIGTERM" in page and "--resume" in page
    tiny(tmp_path / "parts", resume=True)
    assert without_times(tmp_path / "parts") == without_times(tmp_path / "whole")
    assert [int(row["iteration"]) for row in without_times(tmp_path / "whole")] == list(range(1, 17))
    (log,) = [path for path in sorted((tmp_path / "parts").glob("*/*.log"))][1:]
    assert "with the parts before it was resumed" in log.read_text()


def test_a_killed_run_leaves_no_row_twice(tmp_path):
    common = {"hooks": [{"type": "ReportHook"}], "verbose": True}
    trainings = [
        {"work_dir": str(tmp_path / "parts"), "kill_at": 7, **common},
        {"work_dir": str(tmp_path / "parts"), "resume": True, **common},
        {"work_dir": str(tmp_path / "whole"), **common},
        {"work_dir": str(tmp_path / "full"), **common, "hooks": [*common["hooks"], FULL_FROM_3_TO_9]},
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = run_bounded([sys.executable, str(SCRIPT), json.dumps(trainings)], env=environment)
    statuses = json.loads(result.stdout.rpartition("STATUS")[2])
    assert statuses == [-signal.SIGKILL, 0, 0, 0], result.stderr[-3000:]
    whole = without_times(tmp_path / "whole")
    assert without_times(tmp_path / "parts") == whole == without_times(tmp_path / "full")


def test_of_two_ranks_only_the_main_one_reports(shapes, tmp_path):
    loaders = [f"{part}_dataloader.dataset.root={shapes}" for part in ("train", "val", "test")]
    length = [
        "train_cfg.max_iters=2",
        "train_cfg.val_interval=2",
        "param_scheduler.1.end=2",
        "param_scheduler.1.begin=1",
    ]
    length += ["param_scheduler.0.end=1", "default_hooks.logger.interval=1", "train_dataloader.batch_size=4"]
    weights = [f"model.{part}.pretrained=None" for part in ("backbone", "text_encoder")]
    tool = [str(REPOSITORY / "tools" / "train.py"), "lseg_shapes", "--launcher", "pytorch", "--amp", "off"]
    tool += ["--work-dir", str(tmp_path / "run"), "--cfg-options", *loaders, *length, *weights]
    command = [
        sys.executable,
        str(REPOSITORY / "tests" / "forked_ranks.py"),
        json.dumps([{"world_size": 2, "tool": tool}]),
    ]
    result = run_bounded(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=-2)
    assert result.returncode == 0, result.stdout[-3000:]
    assert [row["iteration"] for row in read_csv(tmp_path / "run" / "results.csv")] == ["1", "2"]
    assert len(read_csv(tmp_path / "run" / "per_class.csv")) == 49
    assert result.stdout.count("report.html") == 1 and "incomplete report" not in result.stdout


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_takes_no_report_is_one_warning(tmp_path, monkeypatch, lines_of, code):
    def fail(content, path):
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(run_report, "_write", fail)
    lines = lines_of("openvocab.report")
    tiny(tmp_path)
    warnings = [line for level, line in lines if level > 20]
    assert len(warnings) == 1 and os.strerror(code) in warnings[0] and "the run continues" in warnings[0]
    assert load_checkpoint(tmp_path / "last.pth")["meta"]["iter"] == 16


def test_a_picture_that_cannot_be_drawn_costs_itself_only(tmp_path, monkeypatch, lines_of):
    def fail(*arguments):
        raise RuntimeError("no font")

    monkeypatch.setattr(files, "draw_curves", fail)
    lines = lines_of("openvocab.report")
    tiny(tmp_path)
    (warning,) = [line for level, line in lines if level > 20]
    assert "curves.png" in warning and "no font" in warning
    assert (tmp_path / "report.html").exists() and not (tmp_path / "curves.png").exists()


def test_a_damaged_report_in_a_checkpoint_does_not_keep_a_run_from_being_resumed(tmp_path, lines_of):
    lines = lines_of("openvocab.report")
    report = run_report.RunReport(tmp_path, {"rows": "none"}, "mIoU")
    assert "begins where the run was resumed" in lines[0][1]
    report.take_row(5, {"loss": 1.0, "iter": 5})
    assert [row["iteration"] for row in read_csv(tmp_path / "results.csv")] == ["5"]


def test_reports_before_the_last_one_wait_until_they_are_cheap(tmp_path):
    report = run_report.RunReport(tmp_path)
    assert not report.has_time(0.01)  # of a run of some milliseconds
    report._began_at -= 1000
    assert report.has_time(0.01)
    report.spent = 10.0
    assert not report.has_time(0.01)


def test_negative_numbers_are_refused():
    from openvocab.engine.hooks import ReportHook

    with pytest.raises(ValueError, match="max_share"):
        ReportHook(max_share=-1)
