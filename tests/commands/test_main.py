"""The console command `openvocab`: what is shared by all commands, and that each of them keeps to it."""

import json
import subprocess
import sys

import pytest
from config_parts import REPOSITORY
from fresh_process import run_fresh
from tool_runs import run_command

from openvocab.commands.listing import command_summaries, load_command
from openvocab.commands.parser import CommandParser
from openvocab.version import __version__

COMMANDS = [*command_summaries()]
HELP_OF_ALL = """
import contextlib, io, json, sys
from openvocab.commands.main import main
shown = {}
for words in ["--help"], *([name, "--help"] for name in sys.argv[1:]):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            main(words)
        except SystemExit as end:
            shown[words[0]] = [end.code, out.getvalue()]
heavy = [name for name in ("torch", "mmengine", "numpy", "PIL", "huggingface_hub") if name in sys.modules]
print(json.dumps([shown, heavy]))
"""


def test_every_promised_command_is_there():
    assert {"completion", "convert", "shapes", "test", "train"} <= {*COMMANDS}
    assert not {"main", "parser", "listing", "answers"} & {*COMMANDS}


def test_help_is_shown_without_any_large_package():
    shown, heavy = json.loads(run_fresh(HELP_OF_ALL, *COMMANDS).stdout)
    assert heavy == []
    assert shown.keys() == {"--help", *COMMANDS}
    for name, (code, text) in shown.items():
        assert code == 0
        assert name == "--help" or f"usage: openvocab {name}" in text and "--json" in text, name
    overview = shown["--help"][1]
    assert all(f"  {name} " in overview and summary in overview for name, summary in command_summaries().items())


def test_python_m_is_the_same_command_and_its_start_is_instant(tmp_path):
    program = "import time, runpy, sys; sys.argv = ['openvocab', '--help']\n"
    program += "try: runpy.run_module('openvocab', run_name='__main__')\n"
    program += "finally: print('\\n', time.process_time(), sep='')"
    command = [sys.executable, "-c", program]
    environment = {"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"}
    shown = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=60).stdout
    assert "usage: openvocab COMMAND" in shown
    assert float(shown.splitlines()[-1]) < 0.5  # of processor time; torch alone takes three times that


def test_the_version(capsys):
    assert run_command("--version") == 0
    assert capsys.readouterr().out == f"openvocab {__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_an_unknown_option_is_one_line(name, capsys):
    assert run_command(name, "--jsno") == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1
    assert shown.err.startswith(f"openvocab {name}: error: unknown option --jsno; did you mean --json?")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "no command 'trian'; did you mean train?"),
        (["xyzzy"], "no command 'xyzzy' ("),
        (["main"], "no command 'main'"),
        (["../train"], "no command '../train'"),
        (["--json", "models"], "unknown option --json ("),
        (["--verison"], "unknown option --verison; did you mean --version?"),
        (["train"], "the following arguments are required: config"),
        (["train", "x", "--resume", "--overwrite"], "not allowed with argument"),
        (["convert", "lsge", "a", "b"], "invalid choice: 'lsge'"),
        (["shapes", "-r", "x"], "unknown option -r"),
        (["shapes", "--seed", "one"], "argument --seed: invalid int value: 'one'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_mistake_is_one_line_with_exit_code_2(words, message, capsys):
    assert run_command(*words) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1 and message in shown.err


@pytest.mark.parametrize(
    "words", [["--seed", "-3"], ["--root", "--", "x"], ["--seed=-3"], ["--roo", "x"]], ids=" ".join
)
def test_what_only_looks_like_an_option_is_taken(words):
    parser = CommandParser("openvocab shapes")
    load_command("shapes").add_arguments(parser)
    if words[1:2] == ["--"]:  # argparse: what follows is no option; here there is no argument to take it
        with pytest.raises(SystemExit):
            parser.parse_words(words)
    else:
        given = parser.parse_words(words)
        assert given.seed == -3 or str(given.root) == "x"


def test_options_of_subcommands_are_known():
    parser = CommandParser("openvocab data")
    check = parser.add_subparsers(dest="action").add_parser("check")
    check.add_argument("--strict", nargs="?", choices=["yes", "no"], const="yes")
    check.add_argument("folder")
    assert vars(parser.parse_words(["check", "--strict", "x"])) == dict(action="check", strict="yes", folder="x")


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    command = f"{sys.executable} -m openvocab completion bash | head -n 1 >/dev/null; echo ${{PIPESTATUS[0]}}"
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=REPOSITORY, timeout=60)
    assert (ran.stdout, ran.stderr) == ("0\n", "")
