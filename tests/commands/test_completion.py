"""`openvocab completion`: the script, in a real bash."""

import json
import shutil
import subprocess
import sys

import pytest
from config_parts import REPOSITORY

from openvocab.commands.listing import command_summaries
from openvocab.commands.main import main

ASK = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_shtab_openvocab 2>/dev/null
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def completed(tmp_path_factory):
    """A function that returns what bash offers for the last of some words, in a folder with a file of the user."""
    if shutil.which("bash") is None:
        pytest.skip("no bash")
    folder = tmp_path_factory.mktemp("completion")
    command = [sys.executable, "-m", "openvocab", "completion", "bash"]
    script = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=True).stdout
    (folder / "script.bash").write_text(script)
    (folder / "my config.py").touch()

    def ask(*words: str) -> set[str]:
        command = ["bash", "-c", ASK, "ask", "script.bash", "openvocab", *words]
        offered = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=True).stdout.splitlines()
        return {word for word in offered if word}

    return ask


def test_commands_and_options_are_completed(completed):
    assert completed("") == {*command_summaries()}
    assert completed("tr") == {"train"}
    assert completed("train", "--wo") == {"--work-dir"}
    assert completed("train", "x", "--amp", "") == {"auto", "bf16", "off"}
    assert completed("convert", "") == {"detpro", "groupvit", "lseg", "owlv2", "vild"}


def test_names_of_configs_and_published_models_are_completed_where_they_are_taken(completed):
    assert "lseg_ade" in completed("train", "lseg_a")
    assert completed("train", "my") == {"my config.py"}
    assert completed("train", "groupvit-gcc") == set()
    assert completed("test", "groupvit-gcc") == {"groupvit-gcc-yfcc", "groupvit-gcc-redcaps"}


def test_files_are_completed_elsewhere(completed):
    assert completed("test", "lseg_ade", "my") == {"my config.py"}
    assert completed("train", "x", "--work-dir", "my") == {"my config.py"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_every_shell_gets_a_script_also_as_json(shell, capsys):
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "lseg_ade" in script or shell == "tcsh"
    assert main(["completion", shell, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["script"].strip() == script.strip()
