"""Run a tool or a command in this process or in a copy of it, as its command line would."""

import multiprocessing
import os
import runpy
import subprocess
import sys
from pathlib import Path

import torch

from openvocab.commands.main import main
from openvocab.datasets.shapes.writing import write_shapes

REPOSITORY = Path(__file__).resolve().parents[1]
LSEG_SHAPES = str(REPOSITORY / "configs" / "lseg_shapes.py")


def run_tool(name: str, *arguments: object) -> int:
    """Run tools/<name>.py and return its exit code."""
    before = sys.argv
    sys.argv = [name, *map(str, arguments)]
    try:
        runpy.run_path(str(REPOSITORY / "tools" / f"{name}.py"), run_name="__main__")
    except SystemExit as end:
        return end.code or 0
    finally:
        sys.argv = before
    return 0


def run_tool_apart(folder: Path, name: str, *arguments: object) -> int:
    """Run tools/<name>.py in a folder and return its exit code; what it imports and registers ends with it.

    It runs in a copy of this process, which starts without the seconds that the imports take, or in a fresh one where
    this one may have used CUDA, of which there are no copies.
    """

    def work() -> None:
        os.chdir(folder)
        sys.exit(run_tool(name, *arguments))

    if torch.cuda.is_available():
        command = [sys.executable, str(REPOSITORY / "tools" / f"{name}.py"), *map(str, arguments)]
        return subprocess.run(command, cwd=folder, timeout=240).returncode
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join()
    return process.exitcode


def run_command(*words: object) -> int:
    """Run `openvocab` with these words in this process, and return its exit code."""
    try:
        return main([*map(str, words)])
    except SystemExit as end:
        return int(end.code or 0)


def tiny_lseg_options(shapes: Path) -> list[str]:
    """Return the options that make configs/lseg_shapes.py a run of 4 steps from random weights on `shapes`."""
    loaders = [f"{part}_dataloader.dataset.root={shapes}" for part in ("train", "val", "test")]
    weights = [f"model.{part}.pretrained=None" for part in ("backbone", "text_encoder")]
    length = [
        "train_cfg.max_iters=4",
        "train_cfg.val_interval=4",
        "param_scheduler.0.end=2",
        "param_scheduler.1.begin=2",
    ]
    small = ["param_scheduler.1.end=4", "train_dataloader.batch_size=4", "default_hooks.checkpoint.interval=2"]
    # its pictures take most of the time of such a run
    no_report = ["default_hooks.report=None"]
    return ["--cfg-options", *loaders, *weights, *length, *small, *no_report]


def write_tiny_shapes(root: Path) -> Path:
    """Draw a Shapes world of a few images."""
    write_shapes(root, seed=0, num_train=24, num_val=4)
    return root
