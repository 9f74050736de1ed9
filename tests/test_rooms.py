"""The rooms of the package depend one way: whoever changes one knows what it may rest on, and what rests on it."""

import sys

from config_parts import REPOSITORY

sys.path.insert(0, str(REPOSITORY / "tools"))  # as running the tool does

from draw_rooms import FLOORS, draw, floors_of, imports_between_rooms, knots

PACKAGE = REPOSITORY / "openvocab"


def written(folder, modules):
    for name, text in modules.items():
        path = folder / "package" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "package"


def test_no_room_imports_from_its_own_floor_or_one_above():
    floor = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    imports = imports_between_rooms(PACKAGE)
    assert set(imports) == set(floor), "FLOORS of tools/draw_rooms.py names every room once"
    upwards = [
        line
        for room, others in imports.items()
        for other, lines in others.items()
        if floor[other] >= floor[room]
        for line in lines
    ]
    assert upwards == []


def test_no_rooms_are_one_knot():
    assert knots(imports_between_rooms(PACKAGE)) == []


def test_a_knot_is_found_wherever_the_import_stands(tmp_path):
    package = written(
        tmp_path,
        {
            "__init__.py": "",
            "ground.py": "import os",
            "a/__init__.py": "from package.ground import x",
            "a/deep.py": "def f():\n    from package.b.deep import y",
            "b/__init__.py": "",
            "b/deep.py": "import package.c",
            "c.py": "from package import a",
            "a/inner/__init__.py": "from package.a import deep",
        },
    )
    imports = imports_between_rooms(package)
    assert imports["a"] == {
        "ground": ["package.a imports package.ground"],
        "b": ["package.a.deep imports package.b.deep"],
    }
    assert knots(imports) == [{"a", "b", "c"}]
    assert [sorted(floor) for floor in floors_of(imports)] == [["ground", "package"], ["a", "b", "c"], ["a.inner"]]


def test_the_picture_shows_every_room(tmp_path):
    from PIL import Image

    imports = imports_between_rooms(PACKAGE)
    draw(imports, [list(floor) for floor in FLOORS], tmp_path / "rooms.png")
    with Image.open(tmp_path / "rooms.png") as picture:
        assert picture.width > 1000 and picture.height > 100 * len(FLOORS)
