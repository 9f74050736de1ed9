"""Lines that a message or a page tells the user to type work in bash and in zsh."""

import re

import pytest
from config_parts import REPOSITORY

SOURCES = [*(REPOSITORY / "openvocab").rglob("*.py"), *(REPOSITORY / "docs").glob("*.md")]
UNQUOTED = re.compile(r"pip install (?:-\w+ )*[\w.]+\[\w+\]")
"""zsh takes the brackets of an extra for a pattern."""


def test_extras_are_quoted():
    wrong = {path.name: found[0] for path in SOURCES if (found := UNQUOTED.search(path.read_text()))}
    assert not wrong


@pytest.mark.parametrize(
    ("line", "is_found"),
    [("pip install openvocab[hf]", True), ("pip install -e .[data]", True), ("pip install 'openvocab[hf]'", False)],
)
def test_an_extra_without_quotes_is_found(line, is_found):
    assert bool(UNQUOTED.search(line)) == is_found
