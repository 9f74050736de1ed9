"""Links of the pages lead somewhere, and the public API is there."""

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from config_parts import REPOSITORY

from openvocab.version import __version__

PAGES = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md")])
API = (REPOSITORY / "docs" / "api.md").read_text(encoding="utf-8")
CODE_BLOCK = re.compile(r"^ *```.*?^ *```", re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", CODE_BLOCK.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> Iterator[str]:
    """Yield the targets of links and pictures that are not addresses."""
    for target in re.findall(r"\]\(([^)\s]+)\)", CODE_BLOCK.sub("", page.read_text(encoding="utf-8"))):
        if not target.startswith(("https://", "http://")):
            yield target


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_links_lead_to_files_and_headings(page: Path):
    broken = []
    for target in links(page):
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        if not path.exists() or anchor and anchor not in anchors(path):
            broken.append(target)
    assert not broken


@pytest.mark.parametrize("page", sorted((REPOSITORY / "docs").glob("*.md")), ids=lambda path: path.name)
def test_a_page_is_linked_from_another(page: Path):
    linked = {
        (other.parent / target.partition("#")[0]).resolve()
        for other in PAGES
        for target in links(other)
        if other != page
    }
    assert page in linked


def public_names() -> list[tuple[str, str]]:
    """Return (module, name) of every row of the tables of docs/api.md."""
    rows = re.findall(r"^\| `(openvocab[\w.]*)` \| (.*) \|$", API, re.MULTILINE)
    bases = re.findall(r"`((?:openvocab|mmengine|mmcv)[\w.]*)\.([A-Z]\w+)` \|", API)
    registries = re.findall(r"\| `([A-Z_]+)` \|$", API, re.MULTILINE)
    names = [(module, name) for module, cell in rows for name in re.findall(r"`(\w+)`", cell)]
    return [*names, *bases, *(("openvocab.registry", name) for name in registries)]


@pytest.mark.parametrize(("module", "name"), public_names(), ids=str)
def test_a_public_name_can_be_imported(module: str, name: str):
    assert getattr(import_module(module), name) is not None


def test_the_tables_of_the_api_are_read():
    assert len(public_names()) > 130
    assert {("openvocab", "load"), ("openvocab.heads.base", "Head"), ("openvocab.registry", "HEADS")} <= {
        *public_names()
    }


@pytest.mark.parametrize(
    "package", ["backbones", "datasets", "datasets.transforms", "engine.hooks", "heads", "heads.terms"]
)
def test_every_registered_part_is_public(package: str):
    package = f"openvocab.{package}"
    assert {*import_module(package).__all__} <= {name for module, name in public_names() if module == package}


def test_changelog_and_citation_have_the_version():
    released = __version__.partition(".dev")[0]
    changelog = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## (\d+\.\d+\.\d+) - \d{4}-\d\d-\d\d$", changelog, re.MULTILINE)
    if released == __version__:
        assert versions[0] == __version__
        assert f"version: {__version__}\n" in (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")
    else:
        assert "## Unreleased\n" in changelog and released not in versions
