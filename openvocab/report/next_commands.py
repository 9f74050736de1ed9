"""The commands that follow a training, as the user would type them."""

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config

from openvocab.config.config import ConfigError, read_config
from openvocab.config.saved import config_to_data

PHOTO, NAMES = "photo.jpg", ("cat", "sofa", "other")
"""Placeholders that the user replaces."""
MOST_NAMES = 4
"""Names of a prediction: any others would do, too."""


def next_commands(config: str, checkpoint: str, names: Sequence[str]) -> list[tuple[str, str]]:
    """Return (what it does, command) for a test and, for models that find classes in photos, a prediction.

    Args:
        config: path of the config.
        checkpoint: path of the weights.
        names: of the classes, of which the first few are looked for; none for a model that marks no class in a photo.
    """
    results = str(Path(checkpoint).with_name("test.json"))
    commands = [("test", shlex.join([*_program("test"), config, checkpoint, "--out", results]))]
    if names:
        text = ", ".join(names[:MOST_NAMES])
        words = [text] if _is_console_command() else ["--classes", text]
        commands.append(("predict", shlex.join([*_program("demo"), PHOTO, *words, "--checkpoint", checkpoint])))
    return commands


def resume_command() -> str:
    """Return the command that continues this run: the one that started it, with `--resume`."""
    program = ["openvocab"] if _is_console_command() else ["python", sys.argv[0]]
    if "TORCHELASTIC_RUN_ID" in os.environ:
        module = ["-m", "openvocab"] if _is_console_command() else [sys.argv[0]]
        program = ["torchrun", "--nproc_per_node", os.environ.get("LOCAL_WORLD_SIZE", "1"), *module]
    return shlex.join([*program, *(one for one in sys.argv[1:] if one not in ("--resume", "--overwrite")), "--resume"])


def config_to_test(config: Config, work_dir: str | Path) -> str:
    """Return the path of the config to test with: the user's file, or the copy in the work dir if options changed it.

    Args:
        config: of the run, with the options of the command line.
        work_dir: where the run has written its config.
    """
    copy = Path(work_dir) / Path(config.filename or "config.py").name
    if not copy.is_file() and config.filename:
        return config.filename
    try:
        is_unchanged = bool(config.filename) and _tested_parts(read_config(config.filename)) == _tested_parts(config)
    except (ConfigError, OSError):  # the file was edited or moved while the run trained
        is_unchanged = False
    return config.filename if is_unchanged else str(copy)


def _tested_parts(config: Config) -> list[object]:
    """Return what a test depends on and a run does not complete."""
    content = config_to_data(config)
    return [content.get("model"), content.get("test_evaluator"), (content.get("test_dataloader") or {}).get("dataset")]


def _program(tool: str) -> list[str]:
    """Return how a tool is called: as the running one is, or as in a checkout."""
    if _is_console_command():
        return ["openvocab", {"demo": "predict"}.get(tool, tool)]
    folder = Path(sys.argv[0]).parent if Path(sys.argv[0]).name == "train.py" else Path("tools")
    return ["python", str(folder / f"{tool}.py")]


def _is_console_command() -> bool:
    """Return whether this process was started as `openvocab train`, or by `python -m openvocab`."""
    program = Path(sys.argv[0])
    return program.stem == "openvocab" or (program.name == "__main__.py" and program.parent.name == "openvocab")
