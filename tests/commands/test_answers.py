"""What commands print: one JSON value or text, on any stdout."""

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from config_parts import REPOSITORY

from openvocab.commands.answers import table, write_answer


def test_a_value_is_json_that_any_program_reads(capsys):
    value = {1: [float("nan"), float("inf"), -0.5], "path": Path("a/ü"), "tuple": (None, True)}
    write_answer("not this", value, as_json=True)
    shown = capsys.readouterr().out
    assert json.loads(shown) == {"1": [None, None, -0.5], "path": "a/ü", "tuple": [None, True]}
    assert "ü" in shown and shown.endswith("}\n")


def test_text_ends_with_one_line_end_and_no_text_prints_nothing(capsys):
    write_answer("a\n", [], as_json=False)
    write_answer("b", [], as_json=False)
    write_answer("", [], as_json=False)
    assert capsys.readouterr().out == "a\nb\n"


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("name", ["ü", "\udcff"], ids=["umlaut", "byte"])
def test_an_ascii_terminal_gets_escapes(monkeypatch, name, as_json):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    write_answer(name, name, as_json)
    written = stream.buffer.getvalue().decode("ascii")
    assert json.loads(written) == name if as_json else written.startswith("\\")


@pytest.mark.parametrize("redirection", [">&-", "| true", ">/dev/null"])
def test_a_stdout_that_takes_nothing_is_no_error(tmp_path, redirection):
    program = "from openvocab.commands.answers import write_answer\nwrite_answer('x' * 1_000_000, [], as_json=False)"
    (tmp_path / "program.py").write_text(program)
    command = f"{sys.executable} program.py {redirection}; echo ${{PIPESTATUS[0]}}"
    options = dict(cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True)
    ran = subprocess.run(["bash", "-c", command], timeout=60, **options)
    assert (ran.stdout, ran.stderr) == ("0\n", "")


def test_a_table_is_aligned_and_cut_only_on_a_terminal(monkeypatch):
    rows = [("a", "long name"), ("value", "b" * 200)]
    whole = table(rows)
    assert whole.splitlines() == ["a      long name", "value  " + "b" * 200]
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as terminal, os.fdopen(master):
        monkeypatch.setattr(sys, "stdout", terminal)
        monkeypatch.setenv("COLUMNS", "40")
        lines = table(rows).splitlines()
        monkeypatch.undo()
    assert lines[0] == "a      long name" and len(lines[1]) == 40 and lines[1].endswith("b…")
