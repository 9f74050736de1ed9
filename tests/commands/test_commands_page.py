"""docs/commands.md: every command is on it, with examples that run."""

import re
import shlex

import pytest
from config_parts import REPOSITORY
from tool_runs import run_command, tiny_lseg_options

from openvocab.commands.listing import command_summaries, load_command
from openvocab.commands.parser import CommandParser

PAGE = (REPOSITORY / "docs" / "commands.md").read_text(encoding="utf-8")
EXAMPLES = [
    line for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines() if line.strip()
]
RUN = ("models", "shapes", "train", "test", "publish", "completion")
"""The commands whose examples are run, in the order of the page; they need no file but those that the others write."""


def test_every_command_has_its_section_and_its_row():
    headings = set(re.findall(r"^## openvocab (\w+)$", PAGE, re.MULTILINE))
    rows = set(re.findall(r"^\| \[`(\w+)`\]", PAGE, re.MULTILINE))
    assert headings == rows == {*command_summaries()}


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_a_command(example):
    program, name, *words = shlex.split(example.partition(" > ")[0])
    assert program == "openvocab"
    parser = CommandParser(f"openvocab {name}")
    load_command(name).add_arguments(parser)
    parser.add_argument("--json", action="store_true")
    parser.parse_words(words)


def test_the_examples_run_one_after_the_other_in_an_empty_folder(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENVOCAB_CACHE", str(tmp_path / "cache"))
    short = tiny_lseg_options(tmp_path / "data" / "shapes")
    small = ["--num-train", "24", "--num-val", "4", "--objects-per-class", "1", "--processes", "1"]
    added = {"shapes": small, "train": short, "test": short}
    for example in EXAMPLES:
        _, name, *words = shlex.split(example.partition(" > ")[0])
        if name in RUN:
            assert run_command(name, *words, *added.get(name, [])) == 0, (example, capfd.readouterr().err)
    assert {"model.safetensors", "README.md"} == {path.name for path in (tmp_path / "lseg-shapes").iterdir()}
    assert (tmp_path / "work_dirs" / "lseg_shapes" / "metrics.json").is_file()
