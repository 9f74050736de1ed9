"""The page on the design names every part that it is a map of."""

import re

from config_parts import REPOSITORY

PACKAGE = REPOSITORY / "openvocab"


def test_every_room_and_every_module_beside_them_is_on_the_page():
    page = (REPOSITORY / "docs" / "design.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z0-9_/]+(?:/|\.py))`", page))
    modules = {path.name for path in PACKAGE.glob("*.py")} - {"__init__.py"}
    rooms = {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    assert modules | rooms <= named
