"""Names and prose keep to the words of docs/words.md."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest
from config_parts import REPOSITORY

PAGE = REPOSITORY / "docs" / "words.md"
CODE = sorted(path for folder in ("openvocab", "tools") for path in (REPOSITORY / folder).rglob("*.py"))
PROSE = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md"), *(REPOSITORY / "configs").rglob("*.py")])
NAMES_OF_OTHERS = re.compile(
    r"`[^`]*`|\(https?:[^)]*\)|great grey owl|coloured background|of \{c\} colour|openvocab\.[\w.]+"
)
"""Code within prose, addresses, names of classes and of modules, captions of Shapes: not ours to spell."""


def avoided() -> tuple[set[str], list[re.Pattern]]:
    """Return the names and the texts in the columns "not"."""
    names, texts = set(), []
    for line in PAGE.read_text().splitlines():
        cell = line.split("|")[-2] if line.startswith("|") else ""
        names |= set(re.findall(r"`(\w+)`", cell))
        texts += re.findall(r'"([^"]+)"', cell)
    return names, [re.compile(rf"\b{re.escape(text)}", re.IGNORECASE) for text in texts]


NAMES, TEXTS = avoided()


def names_in(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the names that a module gives to variables, arguments, functions, classes and attributes."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name.strip("_") != "read":
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr


def prose_in(source: str) -> Iterator[tuple[int, str]]:
    """Yield the comments and the texts of a module."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT or token.type == tokenize.STRING and " " in token.string:
            yield token.start[0], token.string


def wrong_texts(lines: Iterator[tuple[int, str]]) -> list[str]:
    """Return where an avoided text stands."""
    wrong = []
    for number, text in lines:
        text = NAMES_OF_OTHERS.sub("", text)
        wrong += [f"{number}: {pattern.search(text)[0]}" for pattern in TEXTS if pattern.search(text)]
    return wrong


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_a_module_has_the_words_of_the_field(path: Path):
    source = path.read_text()
    wrong = [f"{line}: {name}" for line, name in names_in(ast.parse(source)) if name.strip("_") in NAMES]
    assert not [*wrong, *wrong_texts(prose_in(source))]


@pytest.mark.parametrize("path", PROSE, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_a_page_has_the_words_of_the_field(path: Path):
    text = "" if path == PAGE else path.read_text()
    if path.suffix == ".py":
        assert not wrong_texts(prose_in(text))
    else:
        assert not wrong_texts(iter(enumerate(text.splitlines(), 1)))


def test_what_is_avoided_is_found():
    assert {"goals", "lonely", "place"} <= NAMES and len(TEXTS) > 20
    module = 'goals = 1\n\n\ndef f(lonely):\n    """Say of a data set."""\n    self.place = 1  # the centre\n'
    assert {name for _, name in names_in(ast.parse(module))} == {"goals", "f", "lonely", "place"}
    assert wrong_texts(prose_in(module)) == ["5: data set", "5: Say of", "6: centre"]
