"""What our tools set before torch is loaded, and that a program which imports openvocab keeps its own settings."""

import json
import os
import subprocess
import sys

import pytest
from config_parts import REPOSITORY

from openvocab.process import processor_cores, tool_process

OPENMP = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", processor_cores.CHOICE)
TOOLS = ("train", "test", "demo", "cache_region_embeddings")


def run_apart(code: str, **environment: str) -> dict:
    """Run code that ends in a dict, in a process without OpenMP settings but these; return the dict."""
    clean = {key: value for key, value in os.environ.items() if key not in OPENMP} | environment
    command = [sys.executable, "-c", f"import json, os, sys\n{code}\nprint(json.dumps(found))"]
    result = subprocess.run(command, env=clean, capture_output=True, text=True, timeout=120, cwd=REPOSITORY)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


SETTINGS = f"found = {{key: os.environ.get(key) for key in {OPENMP}}}"


@pytest.mark.parametrize(
    ("cores", "quota", "busy", "threads"),
    [
        (8, None, 0, "8"),
        (8, None, 3, "5"),
        (8, None, 8, "1"),
        (64, 4.0, 10, "4"),  # 54 cores are free, of which 4 are granted
        (64, 4.0, 62, "2"),
        (4, 4.0, 1, "3"),
        (64, 1.0, 10, "1"),
    ],
)
def test_a_tool_takes_a_thread_for_each_free_core_that_it_is_granted(cores, quota, busy, threads):
    patch = (
        f"from openvocab.process import processor_cores as p\np._affinity = lambda: range({cores})\n"
        f"p._quota = lambda folder: {quota}\np._mean_busy = lambda cores: {busy}\n"
    )
    found = run_apart(f"{patch}import openvocab.process.tool_process\n{SETTINGS}")
    assert found["OMP_NUM_THREADS"] == threads and found["GOMP_SPINCOUNT"] == str(tool_process.SPIN_COUNT)
    counted = f"{busy} of {cores} cores busy with other jobs{', 4 granted' if cores == 64 else ''}"
    why = "1 core granted" if quota == 1 else counted
    assert found[processor_cores.CHOICE] == f"{why}; OMP_NUM_THREADS changes it"


@pytest.mark.parametrize("waiting", [{"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "7"}])
def test_what_the_user_has_set_stays(waiting):
    mine = {"OMP_NUM_THREADS": "3", **waiting}
    found = run_apart(f"import openvocab.process.tool_process\n{SETTINGS}", **mine)
    assert found == {key: mine.get(key) for key in OPENMP}


@pytest.mark.parametrize("start", [*(f"run_path('tools/{tool}.py'" for tool in TOOLS), "run_module('openvocab'"])
def test_a_tool_and_a_command_set_it_before_torch_is_loaded(start):
    watch = """
import runpy
seen = []
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            seen.append(os.environ.get("GOMP_SPINCOUNT"))
            sys.exit()  # the import itself would take seconds
sys.meta_path.insert(0, Watch())
"""
    words = ["openvocab", *["train"] * ("module" in start), "nowhere.py"]  # ends with a mistake
    program = f"{watch}sys.argv = {words}\ntry: runpy.{start}, run_name='__main__')\nexcept SystemExit: pass\n"
    found = run_apart(f"{program}found = dict(seen=seen)", OMP_NUM_THREADS="1")
    assert found == {"seen": [str(tool_process.SPIN_COUNT)]}


def test_importing_the_library_sets_nothing():
    code = f"from openvocab import load\nimport openvocab.engine.runner, openvocab.command_line\n{SETTINGS}"
    assert run_apart(code) == dict.fromkeys(OPENMP)


def test_nothing_is_set_once_torch_is_loaded():
    assert run_apart(f"import torch\nimport openvocab.process.tool_process\n{SETTINGS}") == dict.fromkeys(OPENMP)
