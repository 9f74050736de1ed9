"""Draw which room of the package imports which, floor by floor: docs/images/rooms.png.

python tools/draw_rooms.py [--package DIR] [--out FILE]

A room is a package, or a module next to the packages; a package within a package is a room of its own. `FLOORS` states
on which floor each room is: a room imports only from the floors below it, which `tests/test_rooms.py` checks.
"""

import argparse
import ast
from collections.abc import Mapping
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
SCALE = 2
"""Of the picture."""
Box = tuple[float, float, float, float]
FLOORS = (
    ("failures", "former_names"),
    ("argument_checks", "files", "finite_guard", "lazy_names", "missing_file", "process", "progress", "registry",
     "seeding", "version"),
    ("checkpoint", "config", "vocabulary", "datasets.shapes", "clip.model_configs"),
    ("clip", "structures"),
    ("drawing", "images", "layers", "ops", "metrics", "converters", "pixel_batch"),
    ("backbones.readouts", "text", "detection", "losses", "logit_map", "preprocessor", "metrics.detection",
     "datasets.files"),
    ("backbones", "heads.terms", "inference", "postprocess", "datasets.annotations", "datasets.shards",
     "datasets.transforms"),
    ("heads", "datasets", "results", "zoo"),
    ("model", "foreign", "diagnosis", "own_data"),
    ("predictor", "evaluation", "engine"),
    ("group_overlays", "predicting", "retrieval", "teacher", "command_line", "publishing", "report"),
    ("engine.hooks", "openvocab", "commands"),
    ("__main__",),
)  # fmt: skip
"""From the ground up; "openvocab" is the package's own front door."""


def imports_between_rooms(package: Path) -> dict[str, dict[str, list[str]]]:
    """Return {room: {room that it imports from: ["module imports module", ...]}} of a package's folder."""
    files = {_dotted(path, package): path for path in sorted(package.rglob("*.py"))}
    imports: dict[str, dict[str, list[str]]] = {_room(module, package): {} for module in files}
    for module, path in files.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for name in _imported(node):
                target = _module_of(name, files)
                room, other = _room(module, package), _room(target, package) if target else None
                if other is not None and other != room:
                    imports[room].setdefault(other, []).append(f"{module} imports {target}")
    return imports


def knots(imports: Mapping[str, Mapping[str, object]]) -> list[set[str]]:
    """Return the sets of rooms that import each other, directly or through others."""
    reached = {room: _reached_from(room, imports) for room in imports}
    mutual = [{other for other in reached[room] if room in reached[other]} for room in imports]
    return [rooms for index, rooms in enumerate(mutual) if len(rooms) > 1 and rooms not in mutual[:index]]


def _reached_from(room: str, imports: Mapping[str, Mapping[str, object]]) -> set[str]:
    reached: set[str] = set()
    waiting = [room]
    while waiting:
        for other in imports[waiting.pop()]:
            if other not in reached:
                reached.add(other)
                waiting.append(other)
    return reached


def _dotted(path: Path, package: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _room(module: str, package: Path) -> str:
    """Return the name of a module's room within the package: "heads.terms", "model"; or the name of the package."""
    folder = package.parent.joinpath(*module.split("."))
    home = module if folder.is_dir() else module.rpartition(".")[0]
    return (module if home == package.name else home).removeprefix(f"{package.name}.")


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def _module_of(name: str, files: Mapping[str, Path]) -> str | None:
    while name and name not in files:
        name = name.rpartition(".")[0]
    return name or None


def floors_of(imports: Mapping[str, Mapping[str, object]]) -> list[list[str]]:
    """Return the rooms by floor, each as low as its imports allow; the rooms of a knot share a floor."""
    home = {room: frozenset([room]) for room in imports}
    for knot in knots(imports):
        home |= {room: frozenset(knot) for room in knot}
    heights: dict[frozenset[str], int] = {}

    def height(group: frozenset[str]) -> int:
        if group not in heights:
            below = {home[other] for room in group for other in imports[room]} - {group}
            heights[group] = max((height(other) + 1 for other in below), default=0)
        return heights[group]

    levels = {room: height(home[room]) for room in imports}
    return [[room for room in imports if levels[room] == level] for level in range(max(levels.values()) + 1)]


def draw(imports: Mapping[str, Mapping[str, object]], floors: list[list[str]], path: Path) -> None:
    """Write a picture of the floors, with a line for each import that no other path of imports covers; knots in red."""
    from PIL import Image, ImageDraw

    from openvocab.drawing.legend import font

    text = font(13 * SCALE)
    in_knots: set[str] = set().union(*knots(imports))
    rooms = [room for floor in floors for room in floor]
    width, height, boxes = _place_rooms(floors, {room: text.getlength(room) / SCALE + 20 for room in rooms})
    image = Image.new("RGB", (int(width * SCALE), int(height * SCALE)), "white")
    pen = ImageDraw.Draw(image)
    for room, others in imports.items():
        for other in others:
            is_knot = room in in_knots and other in in_knots
            if not is_knot and any(other in _reached_from(third, imports) for third in others if third != other):
                continue
            centers = [(boxes[end][0] + boxes[end][2], boxes[end][1] + boxes[end][3]) for end in (room, other)]
            centers = [(x * SCALE / 2, y * SCALE / 2) for x, y in centers]
            pen.line(centers, fill=(214, 60, 50) if is_knot else (150, 165, 185), width=SCALE + 1)
    for room, box in boxes.items():
        fill = (255, 228, 224) if room in in_knots else (232, 240, 250)
        pen.rounded_rectangle([side * SCALE for side in box], 6 * SCALE, fill, (60, 80, 110), SCALE)
        pen.text(((box[0] + 10) * SCALE, (box[1] + 6) * SCALE), room, (20, 30, 50), text)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.quantize(32).save(path)


def _place_rooms(floors: list[list[str]], widths: Mapping[str, float]) -> tuple[float, float, dict[str, Box]]:
    """Return the width and the height of the picture, and the box of each room, in pixels before scaling."""
    gap, room_height, step = 14, 30, 64
    # a floor that is wider than a page takes several rows
    rows = [floor[start : start + 10] for floor in floors for start in range(0, len(floor), 10)]
    page_width = 40 + max(sum(widths[room] + gap for room in row) for row in rows)
    boxes: dict[str, Box] = {}
    for index, row in enumerate(rows):
        left = (page_width - sum(widths[room] for room in row) - gap * (len(row) - 1)) / 2
        top = 20 + (len(rows) - 1 - index) * step
        for room in row:
            boxes[room] = (left, top, left + widths[room], top + room_height)
            left += widths[room] + gap
    return page_width, len(rows) * step + 10, boxes


def main() -> None:
    """Run the tool."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", type=Path, default=REPOSITORY / "openvocab", help="folder of the package")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "docs" / "images" / "rooms.png", help="the picture")
    arguments = parser.parse_args()
    imports = imports_between_rooms(arguments.package.resolve())
    named = {room for floor in FLOORS for room in floor}
    draw(imports, [list(floor) for floor in FLOORS] if named == set(imports) else floors_of(imports), arguments.out)
    print(f"{len(imports)} rooms, {len(knots(imports))} knots: {arguments.out}")


if __name__ == "__main__":
    main()
